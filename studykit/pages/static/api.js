// The way to the server: what the page asks of it, and what it hears from it.

export class Refusal extends Error {}

const LOST = "The server can't be reached: check the connection, and try again.";

async function answered(response) {
  if (response.status === 204) return null;
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  throw new Refusal(body.problem ?? `The server has refused this (${response.status}).`);
}

export function ask(path, options) {
  const lost = () => {
    throw new Refusal(LOST);
  };
  return fetch(`api/${path}`, options).catch(lost).then(answered);
}

export const remove = (path) => ask(path, { method: "DELETE" });

export const post = (path, body = {}, options = {}) =>
  ask(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    ...options,
  });

// A file on its way to the server; fetch does not tell how far it is.
export function bring(role, file, onshare) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const query = new URLSearchParams({ role, name: file.name ?? "" });
    request.open("POST", `api/uploads?${query}`);
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => onshare(total ? loaded / total : 0);
    request.onload = () => {
      if (request.status === 201) resolve(request.response);
      else reject(new Refusal(request.response?.problem ?? LOST));
    };
    request.onerror = () => reject(new Refusal(LOST));
    request.send(file);
  });
}

// All that is the visitor's, again whenever it changes. While this is open, the visitor is here.
export function listen(onstate, onlost) {
  const stream = new EventSource("api/events");
  stream.onmessage = ({ data }) => onstate(JSON.parse(data));
  stream.onerror = () => onlost();
  return () => stream.close();
}
