// Carries the API over HTTP, to the server that the page came from.

export const http = {
  lost: "The server can't be reached: check the connection, and try again.",

  request: (path, { onshare, ...options } = {}) =>
    onshare ? sent(path, options, onshare) : fetch(`api/${path}`, options),

  listen(onstate, onlost) {
    const stream = new EventSource("api/events");
    stream.onmessage = ({ data }) => onstate(JSON.parse(data));
    stream.onerror = () => onlost();
    return () => stream.close();
  },

  show: (node, path, attribute) => node.setAttribute(attribute, `api/${path}`),

  address: (path) => `api/${path}`,
};

// fetch does not tell how far a body is.
function sent(path, { method, body }, onshare) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open(method, `api/${path}`);
    sending.responseType = "blob";
    sending.upload.onprogress = ({ loaded, total }) => onshare(total ? loaded / total : 0);
    sending.onload = () => resolve(new Response(sending.response, { status: sending.status }));
    sending.onerror = reject;
    sending.send(body);
  });
}
