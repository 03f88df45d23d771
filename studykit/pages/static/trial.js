// One clip and what is asked of it.

import { draftKey, keep, kept } from "./browser.js";
import { button, h, icon } from "./elements.js";
import { Player } from "./player.js";

const LOOK = 250; // milliseconds

export class Trial {
  constructor(page) {
    Object.assign(this, { page, state: page.state, setup: page.setup, answers: new Map() });
    this.watched = false;
    this.active = 0;
    this.tiles = this.state.media.map((media) => this.tile(media));
    this.questions = this.setup.asked.map((asked, index) => this.question(asked, index));
    this.node = this.build();
    this.restore();
    this.update();
  }

  text(key, values) {
    return this.page.text(key, values);
  }

  tile({ slot, type }) {
    const moving = type.startsWith("video");
    const label = this.text(this.setup.labels[slot]);
    const shown = moving
      ? h("video", {
          "aria-label": label,
          preload: "auto",
          playsinline: true,
          disablepictureinpicture: true,
          disableremoteplayback: true,
        })
      : h("img", { alt: label, draggable: "false" });
    if (moving) shown.muted = true;
    shown.addEventListener("contextmenu", (event) => event.preventDefault());
    const frame = h("div", { class: "rp-frame" }, shown);
    if (moving) frame.addEventListener("click", () => this.play());
    const node = h("figure", { class: `rp-tile rp-${slot}` }, frame, h("figcaption", {}, label));
    return { slot, moving, shown, node };
  }

  question({ name, label, question, steps }, index) {
    const title = `${this.page.link.name}-${name}`;
    const choices = steps.map(({ word, detail }, step) => {
      const input = h("input", {
        type: "radio",
        name: title,
        value: step + 1,
        disabled: true,
        onchange: () => this.choose(index, step + 1),
      });
      const key = h("span", { class: "rp-number", "aria-hidden": "true" }, String(step + 1));
      const words = h(
        "span",
        { class: "rp-words" },
        word && h("span", { class: "rp-word" }, word),
        detail && h("span", { class: "rp-detail" }, detail),
      );
      return h("label", { class: "rp-choice" }, input, key, words);
    });
    const group = h(
      "div",
      {
        class: "rp-choices",
        role: "radiogroup",
        "aria-labelledby": `${title}-t ${title}-q`,
        style: { "--steps": steps.length },
      },
      ...choices,
    );
    const node = h(
      "section",
      {
        class: `rp-question${steps.length > 6 ? " rp-dense" : ""}`,
        onfocusin: () => this.activate(index),
      },
      h("h2", { id: `${title}-t` }, label),
      h("p", { id: `${title}-q` }, question),
      group,
    );
    const dot = h(
      "button",
      { type: "button", class: "rp-dot", "aria-label": label, onclick: () => this.enter(index) },
      h("span", {}, label),
    );
    return { name, node, dot, inputs: choices.map((choice) => choice.querySelector("input")) };
  }

  build() {
    const { setup, state } = this;
    const tiles = [...this.tiles].sort((a, b) => a.moving - b.moving);
    this.playButton = button(this.text("play"), () => this.play(), { kind: "soft rp-play" });
    this.next = button(this.text("next"), () => this.submit(), { kind: "first rp-next" });
    this.hint = h("p", { class: "rp-hint" });
    this.track = h("div", { class: "rp-played" });
    const dots = this.questions.map(({ dot }) => dot);
    return h(
      "div",
      {
        class: "rp-trial",
        tabindex: -1,
        "data-focus": true,
        "data-tiles": tiles.length,
        "data-videos": tiles.filter(({ moving }) => moving).length,
      },
      h("h1", { class: "rp-unseen" }, this.text(this.title)),
      this.top(),
      h(
        "div",
        { class: "rp-stage" },
        h("div", { class: "rp-tiles" }, ...tiles.map(({ node }) => node)),
        this.track,
        h("div", { class: "rp-controls" }, this.playButton, ...this.controls()),
        state.practice && h("p", { class: "rp-banner" }, this.text("training_banner")),
      ),
      h(
        "div",
        { class: "rp-ask" },
        setup.asked.length > 1 && h("div", { class: "rp-dots" }, ...dots),
        h("div", { class: "rp-list" }, ...this.questions.map(({ node }) => node)),
        h("footer", { class: "rp-foot" }, this.hint, this.next),
      ),
    );
  }

  get title() {
    return this.state.practice ? "training_title" : "rating_title";
  }

  top() {
    const { page, state } = this;
    const turn = (verb, more) =>
      button(this.text(verb), () => page.turn(verb), { sign: verb, short: true, ...more });
    return h(
      "header",
      { class: "rp-top" },
      state.practice && h("span", { class: "rp-badge" }, this.text(this.title)),
      page.progress(),
      turn("undo", { disabled: !state.undo }),
      turn("pause"),
    );
  }

  // What is there in practice only, so that all judge at the same speed; and sound where it is.
  controls() {
    const off = { "aria-pressed": "false" };
    const { practice } = this.state;
    this.slow = practice && button(this.text("half_speed"), () => this.slower(), off);
    this.step =
      practice &&
      button(this.text("frame_step"), () => this.player.step(1), { sign: "step", disabled: true });
    this.sound =
      this.setup.sound && button(this.text("sound"), () => this.hear(), { sign: "sound", ...off });
    return [this.slow, this.step, this.sound];
  }

  async load() {
    const { page, state } = this;
    try {
      const addresses = await Promise.all(state.media.map((media) => page.shelf.get(media)));
      if (this.closed) return;
      const address = Object.fromEntries(state.media.map(({ slot }, i) => [slot, addresses[i]]));
      for (const { slot, shown } of this.tiles) shown.src = address[slot];
      // The rated clip sets the clock.
      const rank = ["clip", "other", "driving"];
      const moving = this.tiles.filter((tile) => tile.moving);
      moving.sort((a, b) => rank.indexOf(a.slot) - rank.indexOf(b.slot));
      this.player = new Player(moving.map(({ shown }) => shown), state.rate);
      await this.player.ready();
    } catch (error) {
      if (!this.closed) this.fail(error);
      return;
    }
    if (this.closed) return;
    this.node.classList.add("rp-loaded");
    this.player.onchange = () => this.update();
    this.player.onend = () => this.ended();
    this.shown = performance.now();
    this.tell("show");
    page.shelf.keep([...state.media, ...state.next]);
    for (const media of state.next) page.shelf.get(media).catch(() => {});
    this.clock();
    this.update();
    page.tellDevice();
    page.say(`${this.text("progress", state.progress)} ${this.text("watch_hint")}`);
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.player.play().catch(() => {});
  }

  // A clip that this device can't play is told to the study's author.
  fail(error) {
    const unplayable = error instanceof MediaError;
    if (unplayable) {
      const reason = `${error.code} ${error.message}`;
      const detail = { clip: String(this.state.number), reason, browser: navigator.userAgent };
      this.page.link.ask("failed", { detail }).catch(() => {});
    }
    this.page.showProblem(unplayable ? "unplayable" : "error", () => this.page.rate());
  }

  clock() {
    if (this.closed) return;
    const { share } = this.player;
    this.track.style.setProperty("--played", share);
    if (!this.watched && share >= this.setup.watch) this.ended();
    requestAnimationFrame(() => this.clock());
  }

  close() {
    this.closed = true;
    this.player?.pause();
    for (const { shown } of this.tiles) shown.removeAttribute("src");
  }

  play() {
    this.player?.play().catch(() => {});
  }

  slower() {
    const slow = this.player?.rate === 1;
    this.player?.setRate(slow ? 0.5 : 1);
    this.slow.setAttribute("aria-pressed", String(slow));
  }

  hear() {
    const clip = this.tiles.find(({ slot }) => slot === "clip").shown;
    clip.muted = !clip.muted;
    this.sound.setAttribute("aria-pressed", String(!clip.muted));
  }

  ended() {
    const first = !this.watched;
    this.watched = true;
    this.played ??= performance.now();
    this.tell("play", { share: this.player.share });
    this.update();
    if (first) this.enter(this.open());
  }

  // How long ago, in seconds, the clip was shown and played: a server that was started again while
  // it was watched has not kept that.
  seen() {
    const ago = (moment) => (performance.now() - moment) / 1000;
    return { shown: ago(this.shown), played: ago(this.played), share: this.player.share };
  }

  // What the kernel refuses here it refuses again with the answer, where the rater is warned.
  tell(verb, content = {}) {
    this.page.link.ask(verb, { turn: this.state.turn, ...content }).catch(() => {});
  }

  // The first question without an answer; their number when there is none.
  open() {
    const index = this.questions.findIndex(({ name }) => !this.answers.has(name));
    return index < 0 ? this.questions.length : index;
  }

  get complete() {
    return this.watched && this.open() === this.questions.length;
  }

  activate(index) {
    this.active = index;
    this.update();
  }

  enter(index) {
    if (index >= this.questions.length) {
      if (!this.page.pointed) this.next.focus();
      return;
    }
    this.activate(index);
    const { inputs } = this.questions[index];
    // A ring around a choice that nobody made would mislead who points and does not type.
    if (this.page.pointed) this.node.focus({ preventScroll: true });
    else (inputs.find(({ checked }) => checked) ?? inputs[0]).focus();
  }

  choose(index, value, move = true) {
    const { name, inputs } = this.questions[index];
    if (!this.watched || !inputs[value - 1]) return;
    inputs[value - 1].checked = true;
    this.answers.set(name, value);
    this.draft();
    this.update();
    if (!move || !this.page.pointed) return;
    const next = index + 1 < this.questions.length ? index + 1 : this.open();
    setTimeout(() => this.enter(next), LOOK); // so that the choice is seen where one shows alone
  }

  clear(index) {
    const { name, inputs } = this.questions[index];
    for (const input of inputs) input.checked = false;
    this.answers.delete(name);
    this.draft();
    this.update();
  }

  async submit() {
    if (!this.complete) {
      this.page.say(this.hint.textContent);
      if (this.watched) this.enter(this.open());
      return;
    }
    this.saving = true;
    this.update();
    const values = Object.fromEntries(this.answers);
    await this.page.turn("answer", { values, number: this.state.number, seen: this.seen() });
    this.saving = false;
    if (this.closed) this.page.say(this.text("saved"));
    else this.update();
  }

  // Answers that are not stored yet outlive a page that is loaded again.
  draft() {
    keep(draftKey(this), JSON.stringify(Object.fromEntries(this.answers)));
  }

  restore() {
    const draft = JSON.parse(kept(draftKey(this))) ?? {};
    this.questions.forEach(({ name, inputs }) => {
      const input = inputs[draft[name] - 1];
      if (!input) return;
      input.checked = true;
      this.answers.set(name, draft[name]);
    });
  }

  update() {
    const { player, watched } = this;
    const playing = player?.playing ?? false;
    const sign = playing || player?.share === 1 ? "replay" : "play";
    this.playButton.replaceChildren(icon(sign), h("span", {}, this.text(sign)));
    this.playButton.disabled = !player;
    if (this.step) this.step.disabled = !player;
    this.questions.forEach(({ name, node, dot, inputs }, index) => {
      node.classList.toggle("rp-active", index === this.active);
      dot.classList.toggle("rp-active", index === this.active);
      dot.classList.toggle("rp-answered", this.answers.has(name));
      for (const input of inputs) input.disabled = !watched || this.saving;
    });
    this.node.classList.toggle("rp-watched", watched);
    const open = this.complete ? "keys_hint" : "answer_all_hint";
    const hint = this.saving ? "saving" : watched ? open : "watch_hint";
    this.hint.textContent = this.text(hint);
    this.hint.dataset.hint = hint;
    this.next.setAttribute("aria-disabled", String(!this.complete || Boolean(this.saving)));
  }

  // Returns whether the key was meant for the trial.
  key({ key, target, repeat }) {
    const digit = Number(key);
    const other = target.closest?.("button, a") && !target.closest(".rp-next, .rp-play");
    if (repeat && key !== "ArrowLeft" && key !== "ArrowRight") return false;
    if (digit >= 1 && digit <= this.setup.highest) {
      const index = this.active;
      if (target === this.next || !this.watched) return true;
      this.choose(index, digit, false);
      this.enter(index + 1);
      return true;
    }
    if (key === " " && !other) {
      this.play();
      return true;
    }
    if (key === "Enter" && !other) {
      this.submit();
      return true;
    }
    if (key === "Backspace") {
      this.back();
      return true;
    }
    return false;
  }

  // Take back the answer at hand, else the one before it, else the last clip's.
  back() {
    const answered = this.answers.has(this.questions[this.active].name);
    const index = answered ? this.active : this.active - 1;
    if (this.watched && index >= 0) {
      this.clear(index);
      this.enter(index);
    } else if (this.state.undo) this.page.turn("undo");
  }
}
