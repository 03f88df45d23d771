// A driving's frames in a row: which take part, where it is cut, where no face is seen.

import { show } from "./api.js";
import { h } from "./elements.js";

const seconds = (time) => `${time.toFixed(2)} s`;

export class Timeline {
  constructor(video, looks, { onchange }) {
    Object.assign(this, { video, onchange, duration: looks.duration, looks });
    this.step = 1 / looks.frame_rate;
    this.strip = h("img", { class: "an-strip", alt: "" });
    this.marks = h("div", { class: "an-marks", "aria-hidden": "true" });
    this.head = h("div", { class: "an-head", hidden: true });
    this.from = this.range("Start of the part that is used", 0);
    this.to = this.range("End of the part that is used", looks.duration);
    this.words = h("p", { class: "an-quiet" });
    this.row = h("div", { class: "an-line" }, this.strip, this.marks, this.head, this.from, this.to);
    this.node = h("div", { class: "an-timeline" }, this.row, this.words);
    video.addEventListener("timeupdate", () => this.played());
    this.draw();
  }

  range(label, value) {
    return h("input", {
      type: "range",
      min: 0,
      max: this.duration,
      step: this.step,
      value,
      "aria-label": label,
      oninput: (event) => this.moved(event.target),
      onchange: () => this.onchange(),
    });
  }

  get start() {
    return Number(this.from.value);
  }

  get end() {
    return Number(this.to.value);
  }

  get view() {
    const view = {};
    if (this.start > this.step / 2) view.start = this.start;
    if (this.end < this.duration - this.step / 2) view.end = this.end;
    return view;
  }

  moved(which) {
    const least = 2 * this.step;
    if (this.end - this.start < least) {
      if (which === this.from) this.from.value = this.end - least;
      else this.to.value = this.start + least;
    }
    this.video.currentTime = which === this.from ? this.start : Math.max(0, this.end - this.step);
    this.draw();
  }

  trim(start, end) {
    this.from.value = start;
    this.to.value = end;
    this.draw();
    this.onchange();
  }

  // The part is played in a loop.
  played() {
    const { currentTime, paused } = this.video;
    if (!paused && (currentTime >= this.end - this.step / 2 || currentTime < this.start - 0.2))
      this.video.currentTime = this.start;
    this.head.hidden = false;
    this.head.style.setProperty("left", `${(100 * currentTime) / this.duration}%`);
  }

  scanned(looks, strip) {
    this.looks = looks;
    if (!this.strip.src) show(this.strip, strip);
    const at = (time) => `${(100 * time) / this.duration}%`;
    const place = (kind, left, width) => {
      const mark = h("span", { class: `an-mark an-mark-${kind}` });
      mark.style.setProperty("left", left);
      if (width) mark.style.setProperty("width", width);
      return mark;
    };
    this.marks.replaceChildren(
      ...(looks.faceless ?? []).map(({ start, end }) =>
        place("faceless", at(start), at(end - start + this.step)),
      ),
      ...looks.cuts.map((cut) => place("cut", at(cut.seconds))),
      ...(looks.reference ? [place("reference", at(looks.reference.seconds))] : []),
    );
    this.draw();
  }

  // The longest part without a cut, where there are cuts.
  get longestShot() {
    const ends = [0, ...this.looks.cuts.map((cut) => cut.seconds), this.duration];
    const shots = ends.slice(1).map((end, index) => [ends[index], end]);
    return shots.sort((one, other) => other[1] - other[0] - (one[1] - one[0]))[0];
  }

  get cutsInside() {
    const inside = ({ seconds }) => seconds > this.start + this.step / 2 && seconds < this.end;
    return (this.looks.cuts ?? []).filter(inside);
  }

  get frames() {
    return Math.round((this.end - this.start) / this.step);
  }

  draw() {
    this.row.style.setProperty("--from", this.start / this.duration);
    this.row.style.setProperty("--to", this.end / this.duration);
    for (const input of [this.from, this.to])
      input.setAttribute("aria-valuetext", seconds(Number(input.value)));
    this.words.textContent =
      `${seconds(this.start)} to ${seconds(this.end)}: ${this.frames} frames at ` +
      `${Number(this.looks.frame_rate.toFixed(2))} a second`;
  }
}
