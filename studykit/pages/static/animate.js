// The page that animates: a picture, a driving, a method, and what comes out.

import { ask, listen, post, Refusal } from "./api.js";
import { keep, kept } from "./browser.js";
import { button, h } from "./elements.js";
import { DrivingView, SourceView } from "./inputs.js";
import { Methods } from "./methods.js";
import { forget, Picker } from "./picker.js";
import { length, Results } from "./results.js";

export class AnimatePage {
  // ``stated`` says how long files stay; ``around`` is what a picture may be pasted into.
  constructor(root, options, { stated, around }) {
    Object.assign(this, { root, options, all: [] });
    this.live = h("div", { class: "rp-unseen", role: "status", "aria-live": "polite" });
    this.toast = h("div", { class: "an-toast", role: "alert", popover: "manual" });
    const changed = () => this.changed();
    const card = (role, View) =>
      new Picker(role, options, {
        show: (upload) => (this[`${role}View`] = new View(upload, changed)).node,
        onchange: (upload, before) => this.brought(role, upload, before),
      });
    this.source = card("source", SourceView);
    this.driving = card("driving", DrivingView);
    [this.source.other, this.driving.other] = [this.driving, this.source];
    this.methods = new Methods(options.methods, changed);
    this.results = new Results({
      signed: options.signed,
      say: (text, loud) => this.say(text, loud),
      onpaste: (asked) => this.send({ ...asked, shows: "picture" }),
    });
    this.go = button("Animate", () => this.animate(), { kind: "first", sign: "play" });
    this.hint = h("p", { class: "an-quiet", id: "an-hint", role: "status" });
    this.go.setAttribute("aria-describedby", "an-hint");
    const third = h(
      "section",
      { class: "an-card", "aria-labelledby": "an-methods" },
      h("header", {}, h("div", {}, h("h2", { id: "an-methods" }, "Method"), h("p", {}, "How it moves"))),
      h("div", { class: "an-card-body" }, this.methods.node),
      h("footer", {}, this.go, this.hint),
    );
    root.append(
      h("main", { class: "an-main" }, this.source.node, this.driving.node, third, this.results.node),
      h("footer", { class: "an-foot" }, stated),
      this.live,
      this.toast,
    );
    around.addEventListener("paste", (event) => this.pasted(event));
    // What is dropped beside a card would be opened in place of the page.
    around.addEventListener("dragover", (event) => event.preventDefault());
    around.addEventListener("drop", (event) => this.dropped(event));
    this.changed();
    this.close = listen((state) => this.update(state), (why) => {
      this.lost = true;
      if (why) this.say(why, true);
    });
  }

  say(text, loud = false) {
    this.live.textContent = text;
    if (!loud) return;
    this.toast.replaceChildren(text, button("Close", () => this.toast.hidePopover(), {}));
    this.toast.showPopover();
  }

  pasted(event) {
    for (const file of event.clipboardData.files) this.source.take(file);
  }

  dropped(event) {
    event.preventDefault();
    for (const file of event.dataTransfer.files) this.source.take(file);
  }

  brought(role, upload, before) {
    if (!upload) this[`${role}View`] = null;
    const used = this.all.some(({ asked }) => before && asked[role] === before.id);
    if (before && !used) forget(before);
    this.changed();
  }

  get ready() {
    return this.source.upload && this.driving.upload;
  }

  get asked() {
    const asked = this.methods.asked;
    return {
      source: this.source.upload.id,
      driving: this.driving.upload.id,
      source_view: asked.shows === "faces" ? {} : this.sourceView.view,
      driving_view: this.drivingView.view,
      ...asked,
    };
  }

  // Something that decides on the clip is another: how long will it take?
  changed() {
    clearTimeout(this.waits);
    const { ready } = this;
    this.go.setAttribute("aria-disabled", String(!ready));
    const missing = [
      !this.source.upload && "a picture",
      !this.driving.upload && "a driving video",
    ].filter(Boolean);
    this.hint.textContent = `Bring ${missing.join(" and ")} first.`;
    if (!ready) return;
    this.hint.textContent = "Measuring how long it takes";
    this.waits = setTimeout(() => this.estimate(), 500);
  }

  async estimate() {
    const asked = JSON.stringify(this.asked);
    try {
      const { seconds, frames } = await post("estimate", this.asked);
      if (!this.ready || asked !== JSON.stringify(this.asked)) return;
      this.hint.textContent = seconds ? `${frames} frames: about ${length(seconds)}` : "";
    } catch (error) {
      if (this.ready) this.hint.textContent = error.message;
    }
  }

  async animate() {
    if (!this.ready) {
      this.say(this.hint.textContent, true);
      return;
    }
    if (kept("may animate") !== "yes" && !(await this.mayThey())) return;
    await this.send(this.asked);
  }

  async send(asked) {
    try {
      const made = await post("animate", { ...asked, may: true });
      this.results.chosen = made.id;
      this.toast.hidePopover();
      this.update(await ask("state"));
      this.results.node.scrollIntoView({ behavior: "smooth", block: "nearest" });
    } catch (error) {
      this.say(error.message, true);
      if (!(error instanceof Refusal)) throw error;
    }
  }

  // Asked once in this browser.
  mayThey() {
    const dialog = h(
      "dialog",
      { class: "an-dialog", "aria-labelledby": "an-may" },
      h("h2", { id: "an-may" }, "May you use this face?"),
      h(
        "p",
        {},
        "A face belongs to a person. Animate your own, one whose owner has agreed, or one that " +
          "nobody has. Don't make anybody seem to say or do what they have not, and keep the " +
          "words that say a clip is synthetic.",
      ),
    );
    return new Promise((resolve) => {
      const end = (may) => () => {
        if (may) keep("may animate", "yes");
        dialog.close();
        dialog.remove();
        resolve(may);
      };
      dialog.addEventListener("cancel", end(false));
      dialog.append(
        h(
          "div",
          { class: "rp-actions" },
          button("Yes, I may", end(true), { kind: "first" }),
          button("No", end(false), { kind: "soft" }),
        ),
      );
      this.root.append(dialog);
      dialog.showModal();
    });
  }

  update({ uploads, animations }) {
    this.all = animations;
    this.results.update(animations);
    for (const role of ["source", "driving"]) {
      const { upload, busy } = this[role];
      const here = Object.values(uploads).filter((each) => each.role === role && each.width);
      if (!this.known && !upload && !busy && here.length) this[role].hold(here.at(-1));
      if (!upload || busy) continue;
      const known = uploads[upload.id];
      if (known && role === "driving") this.drivingView.update(known);
      if (!known && this.lost) this[role].again();
    }
    this.lost = false;
    this.known = true;
  }
}
