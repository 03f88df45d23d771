// A picture, its numbered faces, and the square that is animated: dragged, resized, or around a face.

import { h } from "./elements.js";

const LEAST = 32; // pixels of the picture

export class Cropper {
  // ``media`` is what shows the picture; ``find(view)`` gives the square of a face and a margin.
  constructor(media, looks, { find, onchange, label }) {
    Object.assign(this, { media, find, onchange, size: [looks.width, looks.height] });
    this.known = looks.faces;
    this.face = null;
    this.margin = null;
    this.byHand = false;
    this.square = looks.square ?? null;
    this.handle = h("span", { class: "an-handle" });
    this.box = h(
      "button",
      {
        type: "button",
        class: "an-square",
        "aria-label": `${label}: arrow keys move it, plus and minus resize it`,
        onpointerdown: (event) => this.grab(event),
        onkeydown: (event) => this.key(event),
      },
      this.handle,
    );
    this.chips = looks.faces.map((face) =>
      h(
        "button",
        {
          type: "button",
          class: "an-number",
          "aria-pressed": "false",
          "aria-label": `Face ${face.number}`,
          onclick: () => this.choose({ face: face.number }),
        },
        String(face.number),
      ),
    );
    // The square is dragged through the face: of a face only its number takes the pointer.
    this.faces = looks.faces.map((face, index) => {
      const frame = h("div", { class: "an-face" }, this.chips[index]);
      this.put(frame, face.left, face.top, face.right - face.left, face.bottom - face.top);
      return frame;
    });
    this.margins = h("input", {
      type: "range",
      min: 0,
      max: 1.5,
      step: 0.05,
      value: 0.5,
      oninput: () => this.later({ margin: Number(this.margins.value) }),
    });
    this.whole = h("div", { class: "an-picture" }, media, this.box, ...this.faces);
    this.reset = h(
      "button",
      { type: "button", class: "an-link", onclick: () => this.back() },
      "Reset the square",
    );
    this.controls = h(
      "div",
      { class: "an-fields" },
      h("label", { class: "an-field" }, h("span", {}, "Margin"), this.margins, h("small", {}, "How much around the face takes part.")),
      this.reset,
    );
    this.controls.hidden = !looks.faces.length;
    this.first = this.square;
    this.draw();
  }

  // What the server is asked for.
  get view() {
    if (this.byHand) {
      const { left, top, side } = this.square;
      return { crop: { centre: [left + side / 2, top + side / 2], side } };
    }
    const view = {};
    if (this.face !== null) view.face = this.face;
    if (this.margin !== null) view.margin = this.margin;
    return view;
  }

  // The face that the square is around: the one that was chosen, or the nearest to its middle.
  get taken() {
    if (this.face !== null) return this.face - 1;
    if (this.byHand || !this.square) return -1;
    const { left, top, side } = this.square;
    const far = (face) =>
      Math.hypot(
        (face.left + face.right) / 2 - left - side / 2,
        (face.top + face.bottom) / 2 - top - side / 2,
      );
    const all = this.known.map(far);
    return all.indexOf(Math.min(...all));
  }

  put(node, left, top, width, height) {
    const [wide, high] = this.size;
    const share = { left: left / wide, top: top / high, width: width / wide, height: height / high };
    for (const name in share) node.style.setProperty(name, `${100 * share[name]}%`);
  }

  draw() {
    const { square } = this;
    this.box.hidden = !square;
    if (square) this.put(this.box, square.left, square.top, square.side, square.side);
    const [x, y] = square ? [square.left + square.side / 2, square.top + square.side / 2] : [0, 0];
    this.whole.style.setProperty("--x", x / this.size[0]);
    this.whole.style.setProperty("--y", y / this.size[1]);
    const taken = this.taken;
    this.chips.forEach((chip, index) => {
      const chosen = taken === index;
      chip.setAttribute("aria-pressed", String(chosen));
      this.faces[index].classList.toggle("an-chosen", chosen);
      this.faces[index].hidden = this.chips.length < 2;
    });
    this.reset.hidden = !this.byHand && this.face === null && this.margin === null;
  }

  later(change) {
    clearTimeout(this.waits);
    this.waits = setTimeout(() => this.choose(change), 150);
  }

  async choose(change) {
    Object.assign(this, { byHand: false }, change);
    this.draw();
    const { square } = await this.find(this.view);
    if (square && !this.byHand) this.square = square;
    this.draw();
    this.onchange();
  }

  back() {
    Object.assign(this, { byHand: false, face: null, margin: null, square: this.first });
    this.margins.value = 0.5;
    this.draw();
    this.onchange();
  }

  // The square that was found; one that is set by hand stays.
  found(square) {
    if (this.byHand) return;
    this.square = square;
    if (this.face === null && this.margin === null) this.first = square;
    this.draw();
  }

  grab(event) {
    const start = { ...this.square };
    const { clientX, clientY } = event;
    const scale = this.size[0] / this.whole.getBoundingClientRect().width;
    const resizes = event.target === this.handle;
    this.box.setPointerCapture(event.pointerId);
    const move = (seen) => {
      const right = (seen.clientX - clientX) * scale;
      const down = (seen.clientY - clientY) * scale;
      if (Math.abs(right) + Math.abs(down) < 1 && !this.byHand) return;
      if (resizes) this.set({ ...start, side: start.side + Math.max(right, down) });
      else this.set({ ...start, left: start.left + right, top: start.top + down });
    };
    const end = () => {
      this.box.removeEventListener("pointermove", move);
      if (this.byHand) this.onchange();
    };
    this.box.addEventListener("pointermove", move);
    this.box.addEventListener("lostpointercapture", end, { once: true });
  }

  key(event) {
    const step = (event.shiftKey ? 10 : 2) * Math.max(1, this.size[0] / 400);
    const [right, down, more] = {
      ArrowLeft: [-step, 0, 0],
      ArrowRight: [step, 0, 0],
      ArrowUp: [0, -step, 0],
      ArrowDown: [0, step, 0],
      "+": [-step / 2, -step / 2, step],
      "=": [-step / 2, -step / 2, step],
      "-": [step / 2, step / 2, -step],
    }[event.key] ?? [0, 0, 0];
    if (!right && !down && !more) return;
    event.preventDefault();
    const { left, top, side } = this.square;
    this.set({ left: left + right, top: top + down, side: side + more });
    clearTimeout(this.waits);
    this.waits = setTimeout(() => this.onchange(), 300);
  }

  set({ left, top, side }) {
    const [wide, high] = this.size;
    side = Math.round(Math.max(LEAST, Math.min(side, wide, high)));
    left = Math.round(Math.max(0, Math.min(left, wide - side)));
    top = Math.round(Math.max(0, Math.min(top, high - side)));
    this.square = { left, top, side };
    this.byHand = true;
    this.draw();
  }
}
