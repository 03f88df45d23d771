// The way to the server: what the page asks of it, and what it hears from it.

export class Refusal extends Error {}

const LOST = "The server can't be reached: check the connection, and try again.";

// The server's answer, whatever is in it; a refusal is thrown with what the server says of it.
export async function request(path, options) {
  const lost = () => {
    throw new Refusal(LOST);
  };
  const response = await fetch(`api/${path}`, options).catch(lost);
  if (response.ok) return response;
  const { problem } = await response.json().catch(() => ({}));
  throw new Refusal(problem ?? `The server has refused this (${response.status}).`);
}

export async function ask(path, options) {
  const response = await request(path, options);
  return response.status === 204 ? null : response.json().catch(() => ({}));
}

export const remove = (path) => ask(path, { method: "DELETE" });

export const post = (path, body = {}) =>
  ask(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });

// A file on its way to the server; fetch does not tell how far it is.
export function bring(role, file, onshare) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    const query = new URLSearchParams({ role, name: file.name ?? "" });
    sending.open("POST", `api/uploads?${query}`);
    sending.responseType = "json";
    sending.upload.onprogress = ({ loaded, total }) => onshare(total ? loaded / total : 0);
    sending.onload = () => {
      if (sending.status === 201) resolve(sending.response);
      else reject(new Refusal(sending.response?.problem ?? LOST));
    };
    sending.onerror = () => reject(new Refusal(LOST));
    sending.send(file);
  });
}

// All that is the visitor's, again whenever it changes. While this is open, the visitor is here.
export function listen(onstate, onlost) {
  const stream = new EventSource("api/events");
  stream.onmessage = ({ data }) => onstate(JSON.parse(data));
  stream.onerror = () => onlost();
}
