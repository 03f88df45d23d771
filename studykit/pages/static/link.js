// The way to a rater's session, over any carrier that can send and hear. Every request is sent again
// until it is answered, so that an answer is on the screen as stored only when it is.

const PATIENCE = 4000; // milliseconds until a request is sent again, and the rater is warned
// A clip that is asked for again comes again as a whole, behind which all else would wait.
const PATIENCE_FOR_MEDIA = 60000;
const LONGEST_WAIT = 8000; // until a clip that can't be had is asked for once more

export class Link {
  constructor(model) {
    this.model = model;
    // Several views of one widget hear the same messages: each listens for its own only.
    this.name = crypto.getRandomValues(new Uint32Array(2)).join("");
    this.count = 0;
    this.waiting = new Map();
    this.onlate = () => {};
    this.heard = (message, buffers) => {
      const request = this.waiting.get(message.re);
      if (!request) return;
      clearInterval(request.timer);
      this.waiting.delete(message.re);
      this.late();
      if (message.problem) request.reject(new Error(message.problem));
      else request.resolve({ ...message, buffers });
    };
    model.on("msg:custom", this.heard);
  }

  ask(verb, content = {}) {
    const message = { re: `${this.name}.${++this.count}`, verb, ...content };
    return new Promise((resolve, reject) => {
      const request = { message, resolve, reject, late: false };
      request.timer = setInterval(() => {
        request.late = true;
        this.late();
        this.send(request);
      }, verb === "media" ? PATIENCE_FOR_MEDIA : PATIENCE);
      this.waiting.set(message.re, request);
      this.send(request);
    });
  }

  again() {
    for (const request of this.waiting.values()) this.send(request);
  }

  send({ message }) {
    try {
      this.model.send(message);
    } catch {
      // The connection is gone for now; the next attempt comes by itself.
    }
  }

  late() {
    this.onlate([...this.waiting.values()].some((request) => request.late));
  }

  close() {
    this.model.off("msg:custom", this.heard);
    for (const { timer } of this.waiting.values()) clearInterval(timer);
    this.waiting.clear();
  }
}

// Pictures and clips as addresses inside the browser, which tell nothing of their origin.
export class Shelf {
  constructor(link) {
    this.link = link;
    this.kept = new Map();
  }

  // What is neither shown nor shown next is let go.
  keep(media) {
    const ids = new Set(media.map(({ id }) => id));
    for (const [id, address] of this.kept) {
      if (ids.has(id)) continue;
      this.kept.delete(id);
      address.then(URL.revokeObjectURL, () => {});
    }
  }

  get({ id, type }) {
    if (!this.kept.has(id)) {
      const address = this.fetch(id, type).then((blob) => URL.createObjectURL(blob));
      address.catch(() => this.kept.delete(id));
      this.kept.set(id, address);
    }
    return this.kept.get(id);
  }

  // A notebook's kernel sends the bytes; a server an address, a new one after each failure.
  async fetch(id, type) {
    for (let wait = 500; ; wait *= 2) {
      const { address, buffers } = await this.link.ask("media", { id });
      if (!address) return new Blob(buffers, { type });
      try {
        const answer = await fetch(address);
        if (answer.ok) return new Blob([await answer.arrayBuffer()], { type });
      } catch {
        // The connection is gone for now.
      }
      if (wait > LONGEST_WAIT) throw new Error(`no ${id}`);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}
