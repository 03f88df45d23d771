// What stands on a card when there is a file on it: what it shows, and what of it is used.

import { post, show } from "./api.js";
import { Cropper } from "./cropper.js";
import { h } from "./elements.js";
import { Timeline } from "./timeline.js";

const notes = (found) =>
  found.map(({ level, text }) => h("li", { class: `an-note an-note-${level}` }, text));

// The newest question counts: an answer to an older one that comes late is dropped.
function newest(ask) {
  let count = 0;
  return async (...given) => {
    const mine = ++count;
    const answer = await ask(...given);
    return mine === count ? answer : null;
  };
}

export class SourceView {
  constructor(upload, onchange) {
    this.said = h("ul", { class: "an-notes" });
    const picture = show(h("img", { alt: upload.name }), `uploads/${upload.id}/picture.jpg`);
    const find = newest((view) => post(`uploads/${upload.id}/look`, view));
    this.cropper = new Cropper(picture, upload, {
      label: "The square that is animated",
      onchange: () => this.say(upload.notes) ?? onchange(),
      find: async (view) => (await find(view).catch(() => null)) ?? {},
    });
    const many = upload.faces.length > 1;
    const count = many ? `${upload.faces.length} faces: choose one by its number. ` : "";
    this.node = h(
      "div",
      { class: "an-view" },
      this.cropper.whole,
      h("p", { class: "an-quiet" }, `${count}Drag the square, or pull its corner.`),
      this.cropper.controls,
      this.said,
    );
    this.say(upload.notes);
  }

  // Which face was taken is of interest as long as nobody has chosen one.
  say(found) {
    const { face, crop } = this.view;
    this.said.replaceChildren(
      ...notes(found.filter(({ level }) => level !== "note" || !(face || crop))),
    );
  }

  get view() {
    return this.cropper.view;
  }
}

export class DrivingView {
  constructor(upload, onchange) {
    Object.assign(this, { id: upload.id, onchange, looks: upload });
    this.video = h("video", { playsinline: true, "aria-label": upload.name });
    show(this.video, `uploads/${upload.id}/picture.jpg`, "poster");
    this.video.muted = true;
    this.video.addEventListener("timeupdate", () => this.follow());
    this.ask = newest((view) => post(`uploads/${this.id}/look`, view));
    this.cropper = new Cropper(this.video, upload, {
      label: "The square whose motion is taken",
      onchange: () => onchange(),
      find: async () => (await this.look()) ?? {},
    });
    this.play = h(
      "button",
      { type: "button", class: "an-link", disabled: true, onclick: () => this.toggle() },
      "Play",
    );
    for (const event of ["play", "pause"])
      this.video.addEventListener(event, () => {
        this.play.textContent = this.video.paused ? "Play" : "Pause";
      });
    this.timeline = new Timeline(this.video, upload, { onchange: () => this.look() });
    this.reference = this.select("Motion counts from", [
      ["first", "the first good frame"],
      ["best", "the best frame"],
      ["here", "the frame shown"],
    ]);
    this.faceless = this.select("Frames without a face", [
      ["interpolate", "motion goes on"],
      ["hold", "the last face stays"],
      ["cut", "are left out"],
    ]);
    this.facts = h("ul", { class: "an-notes" });
    this.node = h(
      "div",
      { class: "an-view" },
      this.cropper.whole,
      this.timeline.node,
      h("div", { class: "an-row an-between" }, this.play, h("p", { class: "an-quiet" }, this.sound())),
      h(
        "details",
        { class: "an-more" },
        h("summary", {}, "Fine tuning"),
        this.cropper.controls,
        h("div", { class: "an-fields" }, this.reference.label, this.faceless.label),
      ),
      this.facts,
    );
    this.update(upload);
  }

  sound() {
    return this.looks.sound ? "its sound goes along" : "no sound";
  }

  select(text, choices) {
    const options = choices.map(([value, words]) => h("option", { value }, words));
    const select = h("select", { onchange: () => this.look() }, ...options);
    select.label = h("label", { class: "an-field" }, h("span", {}, text), select);
    return select;
  }

  toggle() {
    if (this.video.paused) this.video.play();
    else this.video.pause();
  }

  get view() {
    const view = { ...this.timeline.view, ...this.cropper.view };
    if (this.reference.value === "best") view.reference = "best";
    if (this.reference.value === "here") view.reference = this.here;
    if (this.faceless.value !== "interpolate") view.faceless = this.faceless.value;
    return view;
  }

  // A square that follows the face is shown where it is now.
  follow() {
    const { squares } = this.looks;
    if (!squares?.length) return;
    const { start, step } = this.timeline;
    const index = Math.round((this.video.currentTime - start) / step);
    this.cropper.found(squares[Math.max(0, Math.min(index, squares.length - 1))]);
  }

  // The moment that is shown, on a frame of the part that is used.
  get here() {
    const { step, start, end } = this.timeline;
    const at = Math.min(Math.max(this.video.currentTime, start), end - step);
    return Math.round(at / step) * step;
  }

  async look() {
    this.onchange();
    let found;
    try {
      found = await this.ask(this.view);
    } catch (error) {
      found = { cuts: this.looks.cuts, faceless: [], range_notes: [], refusal: error.message };
    }
    if (!found) return null;
    Object.assign(this.looks, { refusal: "" }, found);
    this.show();
    return found;
  }

  // What the server has found so far; it looks at every frame while the visitor goes on.
  update(upload) {
    if (this.done) return;
    this.done = upload.scanned === 1;
    this.looks = { ...upload };
    if (!this.done) {
      const share = Math.round(100 * (upload.scanned ?? 0));
      this.facts.replaceChildren(h("li", { class: "an-note" }, `Looking at every frame: ${share} %`));
      return;
    }
    show(this.video, `uploads/${this.id}/proxy.mp4`);
    this.play.disabled = false;
    this.show();
  }

  show() {
    const { looks } = this;
    if (looks.square) this.cropper.found(looks.square);
    this.timeline.scanned(looks, `uploads/${this.id}/strip.jpg`);
    const found = [...looks.notes];
    const add = (level, text) => found.push({ level, text });
    if (looks.refusal) add("error", looks.refusal);
    for (const text of looks.range_notes ?? []) add("note", text);
    this.facts.replaceChildren(...notes(found));
    const cuts = this.timeline.cutsInside;
    if (!cuts.length) return;
    const [start, end] = this.timeline.longestShot;
    const trim = () => this.timeline.trim(start, end);
    const where = cuts.map((cut) => `${cut.seconds.toFixed(2)} s`).join(", ");
    this.facts.prepend(
      h(
        "li",
        { class: "an-note an-note-warning" },
        `Cut at ${where}: motion should come from one shot. `,
        h("button", { type: "button", class: "an-link", onclick: trim }, "Use the longest shot"),
      ),
    );
  }
}
