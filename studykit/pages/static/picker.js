// How a picture or a driving is brought: dropped, chosen, pasted, from the camera, or an example.

import { bring, post, Refusal, remove, show } from "./api.js";
import { photograph, record } from "./camera.js";
import { button, h, icon } from "./elements.js";

const WORDS = {
  source: {
    title: "Picture",
    lead: "Whose face is animated",
    drop: "Drop a picture here",
    bring: "Bring a picture",
    types: "image/*,.heic,.tif,.tiff,.ppm,.tga,.jp2",
    live: "Take a photograph",
  },
  driving: {
    title: "Driving video",
    lead: "Whose motion is taken",
    drop: "Drop a video here",
    bring: "Bring a video",
    types: "video/*,image/gif,image/apng,.mkv,.mxf",
    live: "Record with the camera",
  },
};

const touched = matchMedia("(hover: none)").matches; // nothing is dropped, nor pasted by keys

export class Picker {
  // ``show(upload)`` gives what stands on the card when there is a file; ``onchange`` hears of it.
  constructor(role, options, { show, onchange }) {
    Object.assign(this, { role, options, show, onchange, words: WORDS[role] });
    this.upload = null;
    this.origin = null; // from which it can be brought again
    this.body = h("div", { class: "an-card-body" });
    this.name = h("p", { class: "an-card-name" }, this.words.lead);
    this.replace = button("Replace", () => this.empty(), { kind: "soft", hidden: true });
    this.node = h(
      "section",
      { class: "an-card", "aria-labelledby": `an-${role}` },
      h(
        "header",
        {},
        h("div", {}, h("h2", { id: `an-${role}` }, this.words.title), this.name),
        this.replace,
      ),
      this.body,
    );
    this.file = h("input", {
      type: "file",
      class: "rp-unseen",
      tabindex: -1,
      accept: this.words.types,
      "aria-label": `${this.words.title}: choose a file`,
      onchange: () => {
        const [file] = this.file.files;
        this.file.value = ""; // else the same file chosen again would be no change
        if (file) this.take(file);
      },
    });
    for (const event of ["dragover", "dragleave", "drop"])
      this.node.addEventListener(event, (seen) => this.dragged(seen));
    this.empty(false);
  }

  dragged(event) {
    event.preventDefault();
    this.node.classList.toggle("an-over", event.type === "dragover");
    if (event.type !== "drop") return;
    event.stopPropagation();
    for (const file of event.dataTransfer.files) this.take(file);
  }

  // Back to the choice; what was here goes, unless an animation is made of it.
  empty(focus = true) {
    const before = this.upload;
    this.upload = this.origin = null;
    this.name.textContent = this.words.lead;
    this.replace.hidden = true;
    this.problem = h("p", { class: "an-problem", role: "alert", hidden: true });
    const choose = button("Choose a file", () => this.file.click(), { kind: "soft", sign: "folder" });
    this.body.replaceChildren(
      h(
        "div",
        { class: "an-drop" },
        icon(this.role === "source" ? "picture" : "film"),
        h("p", { class: "an-drop-lead" }, touched ? this.words.bring : this.words.drop),
        h("p", { class: "an-quiet" }, this.limits()),
        h(
          "div",
          { class: "an-row" },
          choose,
          button(this.words.live, () => this.live(), { kind: "soft", sign: "camera" }),
        ),
        this.role === "source" &&
          !touched &&
          h("p", { class: "an-quiet" }, "or paste one, by Ctrl V"),
        this.file,
      ),
      this.problem,
      this.examples(),
    );
    if (focus) choose.focus();
    if (before) this.onchange(null, before);
  }

  limits() {
    const { bytes, seconds, pixels } = this.options.limits;
    const most = `${Math.round(bytes / 2 ** 20)} MB`;
    if (this.role === "driving") return `up to ${most} and ${seconds} seconds`;
    return `up to ${most} and ${Math.round(pixels / 1e6)} megapixels`;
  }

  examples() {
    const names = this.options.examples[this.role];
    if (!names.length) return null;
    const tiles = names.map((name) => {
      const file = `examples/${this.role}/${encodeURIComponent(name)}`;
      const shown =
        this.role === "source"
          ? show(h("img", { alt: "", loading: "lazy" }), file)
          : show(h("video", { muted: true, playsinline: true, preload: "metadata" }), `${file}#t=0.1`);
      const tile = h(
        "button",
        {
          type: "button",
          class: "an-example",
          "aria-label": `Example ${name}`,
          title: name,
          onclick: () => this.choose(name),
        },
        shown,
      );
      if (this.role === "driving") {
        tile.addEventListener("pointerenter", () => shown.play().catch(() => {}));
        tile.addEventListener("pointerleave", () => shown.pause());
      }
      return tile;
    });
    return h(
      "div",
      { class: "an-examples", role: "group", "aria-label": `${this.words.title}: examples` },
      h("p", { class: "an-quiet" }, "Or try one of these"),
      h("div", { class: "an-tiles" }, ...tiles),
    );
  }

  async live() {
    const file = await (this.role === "source" ? photograph() : record(this.options.limits));
    if (file) this.take(file);
  }

  // A video that is brought as a picture, or a picture as a video, goes to the other card.
  take(file) {
    const still = /^image\/(?!gif|apng|png|webp)/.test(file.type);
    if (this.role === "source" ? file.type.startsWith("video/") : still) return this.other.take(file);
    const { bytes } = this.options.limits;
    if (file.size > bytes) {
      if (this.upload) this.empty(false);
      this.say(`${file.name} is larger than ${Math.round(bytes / 2 ** 20)} MB: make it smaller.`);
      return null;
    }
    return this.fetch({ file, name: file.name }, (onshare) => bring(this.role, file, onshare));
  }

  choose(name) {
    const query = new URLSearchParams({ role: this.role, name, example: true });
    return this.fetch({ example: name, name }, () => post(`uploads?${query}`));
  }

  // The files of a visitor who was away too long are gone: they are brought again.
  again() {
    const { file, example } = this.origin;
    if (file) return this.take(file);
    return example ? this.choose(example) : this.empty(false);
  }

  // What stands on the card: a file that was just brought, or was here before the page was loaded.
  hold(upload, origin = {}) {
    const before = this.upload;
    this.upload = upload;
    this.origin = origin;
    this.name.textContent = upload.name;
    this.replace.hidden = false;
    this.body.replaceChildren(this.show(upload));
    this.onchange(upload, before);
  }

  async fetch(origin, start) {
    if (this.busy) return;
    this.busy = true;
    const before = this.upload;
    const bar = h("progress", { max: 1, value: 0, "aria-label": `Bringing ${origin.name}` });
    const words = h("p", { class: "an-quiet", role: "status" }, `Bringing ${origin.name}`);
    const covers = h("div", { class: "an-busy" }, words, bar);
    this.node.append(covers);
    try {
      const upload = await start((share) => {
        bar.value = share;
        if (share < 1) return;
        words.textContent = `Looking at ${origin.name}`;
        bar.removeAttribute("value");
      });
      this.hold(upload, origin);
      this.replace.focus({ preventScroll: true });
    } catch (error) {
      if (before) this.empty(false);
      this.say(error instanceof Refusal ? error.message : "This did not work: try again.");
      if (!(error instanceof Refusal)) throw error;
    } finally {
      this.busy = false;
      covers.remove();
    }
  }

  say(text) {
    this.problem.hidden = false;
    this.problem.textContent = text;
  }
}

export const forget = (upload) => remove(`uploads/${upload.id}`).catch(() => {});
