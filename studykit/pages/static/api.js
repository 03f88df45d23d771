// What the page asks of the API, and what it hears from it. A carrier takes it there: over HTTP, or in
// a notebook over messages.

import { http } from "./http.js";

export class Refusal extends Error {}

let carrier = http;
export const carriedBy = (other) => {
  carrier = other;
};

// The answer, whatever is in it; a refusal is thrown with what is said of it. ``onshare`` hears how
// much of a body has gone.
export async function request(path, options) {
  const response = await carrier.request(path, options).catch(() => {
    throw new Refusal(carrier.lost);
  });
  if (response.ok) return response;
  const { problem } = await response.json().catch(() => ({}));
  throw new Refusal(problem ?? `This was refused (${response.status}).`);
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

export const bring = (role, file, onshare) =>
  ask(`uploads?${new URLSearchParams({ role, name: file.name ?? "" })}`, {
    method: "POST",
    body: file,
    onshare,
  });

// All that is the visitor's, again whenever it changes, until what is returned is called. While this
// is open, the visitor is here.
export const listen = (onstate, onlost) => carrier.listen(onstate, onlost);

// Gives a picture or a video what it shows.
export const show = (node, path, attribute = "src") => {
  carrier.show(node, path, attribute);
  return node;
};

// What a link to it leads to.
export const address = (path) => carrier.address(path);
