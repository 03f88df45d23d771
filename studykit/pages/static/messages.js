// Carries the API over a widget's messages, to an application in a notebook's kernel. What is large
// goes in pieces, each after the one before it was taken: Jupyter's server ends a connection over
// which 10 MB come at once. The other end is studykit/pages/messages.py.

const PIECE = 2 ** 20; // bytes
const SILENCE = 30000; // milliseconds without a sign of life, after which the kernel is gone

export class Messages {
  lost = "The notebook's kernel does not answer: run this cell again.";

  constructor(model) {
    Object.assign(this, { model, count: 0, open: new Map(), shown: new Map() });
    // Several pages in one notebook hear the same messages: each listens for its own only.
    this.name = crypto.getRandomValues(new Uint32Array(2)).join("");
    this.heard = ({ re, ...message }, buffers) => this.open.get(re)?.hear(message, buffers);
    model.on("msg:custom", this.heard);
    this.left = () => this.close();
    addEventListener("pagehide", this.left);
  }

  // ``onpart`` hears each part of an answer that does not end.
  request(path, { method = "GET", headers = {}, body, onshare, onpart, signal } = {}) {
    const re = `${this.name}.${++this.count}`;
    const whole = new Blob(body === undefined ? [] : [body]);
    const parts = [];
    let at = 0;
    const send = async () => {
      const piece = await whole.slice(at, at + PIECE).arrayBuffer();
      const first = at ? {} : { method, path, headers };
      at += PIECE;
      this.model.send({ re, more: at < whole.size, ...first }, undefined, [piece]);
      onshare?.(Math.min(1, at / whole.size));
    };
    const answer = new Promise((resolve, reject) => {
      const hear = ({ taken, part, status, headers }, buffers) => {
        if (taken) return send().catch(reject);
        if (onpart && part) return onpart(buffers[0]);
        parts.push(...buffers);
        if (part) return this.model.send({ re, next: true });
        const words = new Response(status === 204 ? null : new Blob(parts), { status, headers });
        return resolve(words);
      };
      this.open.set(re, { hear, reject });
      signal?.addEventListener("abort", reject);
      send().catch(reject);
    });
    answer.catch(() => this.tell({ re, gone: true })).finally(() => this.open.delete(re));
    if (method === "DELETE") this.forget(path);
    return answer;
  }

  // A kernel that is gone takes nothing.
  tell(message) {
    try {
      this.model.send(message);
    } catch {}
  }

  listen(onstate, onlost) {
    const over = new AbortController();
    let heard = performance.now();
    const onpart = (words) => {
      heard = performance.now();
      const [kind, text] = new TextDecoder().decode(words).split(/: (.*)/s);
      if (kind === "data") onstate(JSON.parse(text));
    };
    this.request("events", { onpart, signal: over.signal }).catch(() => {});
    const clock = setInterval(() => {
      if (performance.now() - heard < SILENCE) return;
      for (const { reject } of this.open.values()) reject();
      clearInterval(clock);
      onlost(this.lost);
    }, SILENCE / 10);
    return () => clearInterval(clock) ?? over.abort();
  }

  async show(node, path, attribute) {
    const [file, moment] = path.split(/(?=#)/);
    if (!this.shown.has(file)) {
      const blob = this.request(file).then((answer) => (answer.ok ? answer.blob() : null));
      this.shown.set(file, blob.then((found) => (found ? URL.createObjectURL(found) : "")));
    }
    node.setAttribute(attribute, (await this.shown.get(file).catch(() => "")) + (moment ?? ""));
  }

  forget(path) {
    for (const [file, url] of this.shown)
      if (file.startsWith(path) && this.shown.delete(file)) url.then(URL.revokeObjectURL, () => {});
  }

  address = () => "#";

  close() {
    for (const { reject } of this.open.values()) reject();
    this.forget("");
    this.model.off("msg:custom", this.heard);
    removeEventListener("pagehide", this.left);
  }
}
