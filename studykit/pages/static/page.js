// The rating page. It holds no knowledge of the study: the kernel names the page to show and the
// words on it, and pictures and clips come under numbers.

import { describeDevice, draftKey, followTheme, keep, recall, remember } from "./browser.js";
import { button, h, icon, waiting } from "./elements.js";
import { Link, Shelf } from "./link.js";
import { Trial } from "./trial.js";

export class RatingPage {
  constructor(model, root) {
    this.root = root;
    this.link = new Link(model);
    this.shelf = new Shelf(this.link);
    this.onshow = () => {};
    this.link.onlate = (late) => this.showLate(late);
    this.keys = (event) => this.key(event);
    this.live = h("div", { class: "rp-unseen", role: "status", "aria-live": "polite" });
    this.late = h("div", { class: "rp-late", role: "alert", hidden: true });
    this.main = h("main", { class: "rp-main" }, waiting(document.body.dataset.loading ?? "Loading"));
    root.append(this.late, this.main, this.live);
    root.addEventListener("keydown", this.keys);
    root.addEventListener("pointerdown", () => (this.pointed = this.touched = true));
    root.addEventListener("cancel", (event) => {
      event.preventDefault();
      if (this.trial && !this.busy) this.turn("pause");
      else this.lift(false);
    });
    root.addEventListener("keyup", (event) => event.stopPropagation());
    this.hidden = () => document.hidden && this.trial?.player?.pause();
    document.addEventListener("visibilitychange", this.hidden);
    this.unthemed = followTheme(root);
    this.begin();
  }

  async begin() {
    let { setup, state } = await this.link.ask("hello");
    this.setup = setup;
    this.texts = setup.texts;
    this.root.lang = setup.language;
    if (setup.alone) document.title = this.texts.title;
    // In a notebook whoever has a rater's code may go on; elsewhere it takes the rater's link.
    const rater = !setup.alone && recall(setup.study);
    if (rater && !state.rater) ({ state } = await this.link.ask("recall", { rater }));
    this.show(state);
  }

  close() {
    this.leave();
    this.link.close();
    this.shelf.keep([]);
    this.unthemed();
    document.removeEventListener("visibilitychange", this.hidden);
  }

  text(key, values = {}) {
    const known = { highest: Math.min(this.setup.highest, 9), ...values }; // 9: keys are digits
    return this.texts[key].replace(/\{(\w+)\}/g, (all, name) => known[name] ?? all);
  }

  say(text) {
    this.live.textContent = text;
  }

  // Ask the kernel for a change and show the page that it answers with. Every change names the
  // turn that it was made in, so that one which is sent twice is made once.
  async turn(verb, content = {}) {
    if (this.busy) return;
    this.busy = true;
    try {
      const { state, feedback } = await this.link.ask(verb, { turn: this.state.turn, ...content });
      if (verb === "answer") keep(draftKey(this), null);
      if (feedback) this.learn(feedback, () => this.show(state, verb));
      else this.show(state, verb);
      if (verb === "agree") this.tellDevice();
    } catch {
      this.showProblem(verb === "answer" ? "unsaved" : "error", () => this.turn(verb, content));
    } finally {
      this.busy = false;
    }
  }

  show(state, verb) {
    const before = this.state;
    this.leave();
    this.state = state;
    this.problem?.remove();
    if (state.rater && !this.setup.alone && state.page !== "withdrawn")
      remember(this.setup.study, state.rater);
    this.onshow(state, verb);
    const page = state.paused ? "paused" : state.page;
    // A page that is opened in the middle waits for a first touch, without which nothing may play.
    const started = before?.paused || before?.page === state.page || verb === "return";
    const pages = {
      consent: () => this.consent(),
      declined: () => this.card({ sign: null, body: [h("p", {}, this.text("declined"))] }),
      questions: () => this.questions(),
      checks: () => this.checks(),
      paused: () => this.paused(),
      training: () => (started ? this.rate() : this.before(Boolean(before))),
      rating: () => (started ? this.rate() : this.before(Boolean(before))),
      break: () => this.rest(),
      finished: () => this.finished(),
      withdrawn: () => this.withdrawn(),
    };
    this.root.dataset.page = page;
    this.lift(["questions", "checks", "training", "rating"].includes(page));
    pages[page]();
  }

  leave() {
    this.trial?.close();
    this.trial = null;
  }

  // Over a notebook the page fills the window while it is worked on: nothing else to look at, and
  // no cell that a key could reach. Inside a frame, as in Colab, there is no window to fill.
  lift(lifted) {
    if (lifted === this.root.matches(":modal")) return;
    if (lifted && (this.setup.alone || window.self !== window.top || !this.touched)) return;
    this.root.close();
    if (lifted) this.root.showModal();
    else this.root.show();
  }

  place(...nodes) {
    this.main.replaceChildren(...nodes);
    const [reached] = ["input[data-focus]", "button[data-focus]", "[data-focus]"]
      .map((wanted) => this.main.querySelector(wanted))
      .filter(Boolean);
    // A notebook that is just being run keeps its own focus.
    const mine = this.setup.alone || this.root.contains(document.activeElement) || this.touched;
    if (reached && mine) reached.focus({ preventScroll: !this.setup.alone });
  }

  card({ title, body = [], actions = [], sign = null }) {
    const heading = title && h("h1", { tabindex: -1, "data-focus": true }, title);
    this.place(
      h(
        "section",
        { class: "rp-card" },
        sign && h("div", { class: "rp-sign" }, icon(sign)),
        heading,
        ...body,
        actions.some(Boolean) && h("div", { class: "rp-actions" }, ...actions),
      ),
    );
  }

  consent() {
    const { known } = this.state;
    const returning = h(
      "div",
      { class: "rp-returning" },
      h("span", {}, this.text("known", { rater: known })),
      button(this.text("resume"), () => this.turn("return"), { kind: "first" }),
    );
    const kind = known ? "soft" : "first";
    const asks = this.setup.consent !== "";
    const paragraphs = this.setup.consent.split(/\n\s*\n/).map((text) => h("p", {}, text));
    this.card({
      title: this.text("title"),
      body: [
        h("p", { class: "rp-lead" }, this.text("welcome")),
        known && returning,
        ...(asks ? [h("h2", {}, this.text("consent_title")), ...paragraphs] : []),
      ],
      actions: [
        button(this.text(asks ? "agree" : "begin"), () => this.turn("agree"), { kind }),
        ...(asks ? [button(this.text("decline"), () => this.turn("decline"))] : []),
      ],
    });
  }

  questions() {
    const form = h("form", { class: "rp-questions" });
    for (const { name, label, choices } of this.setup.questions) {
      const title = h("legend", {}, label);
      const pills = ["", ...choices].map((choice) =>
        h(
          "label",
          { class: "rp-pill" },
          h("input", { type: "radio", name: `rp-${name}`, value: choice, checked: !choice }),
          h("span", {}, choice || this.text("no_answer")),
        ),
      );
      pills.push(pills.shift());
      form.append(h("fieldset", {}, title, h("div", { class: "rp-pills" }, ...pills)));
    }
    const answers = () =>
      Object.fromEntries(
        this.setup.questions.map(({ name }) => [name, form.elements[`rp-${name}`].value]),
      );
    this.card({
      title: this.text("questions_title"),
      body: [h("p", { class: "rp-lead" }, this.text("questions_hint")), form],
      actions: [
        button(this.text("next"), () => this.turn("questions", { answers: answers() }), {
          kind: "first",
        }),
      ],
    });
  }

  // Pictures to be read, which find who can't see what the clips show.
  checks() {
    const fields = this.state.plates.map(({ check, image }, index) =>
      h(
        "label",
        { class: `rp-plate rp-plate-${check}` },
        h("img", { alt: "", src: `data:image/png;base64,${image}` }),
        h("span", {}, this.text(`check_${check}`)),
        h("input", {
          type: "text",
          autocomplete: "off",
          spellcheck: "false",
          maxlength: 20,
          inputmode: check === "colour" ? "numeric" : "text",
          "data-focus": index === 0,
        }),
      ),
    );
    const answers = () => fields.map((field) => field.querySelector("input").value);
    const form = h(
      "form",
      {
        class: "rp-plates",
        id: "rp-plates",
        onsubmit: (event) => {
          event.preventDefault();
          this.turn("checks", { answers: answers() });
        },
      },
      ...fields,
    );
    this.card({
      title: this.text("checks_title"),
      body: [h("p", { class: "rp-lead" }, this.text("checks_hint")), form],
      actions: [
        button(this.text("next"), () => {}, { kind: "first", type: "submit", form: "rp-plates" }),
      ],
    });
  }

  // After a practice clip that was spoilt: what it should have got.
  learn(feedback, next) {
    this.leave();
    const lines = feedback.map(({ label, low, high, given }) => {
      const right = given >= low && given <= high;
      const text = this.text(right ? "feedback_right" : "feedback_wrong", { label, low, high, given });
      return h("p", { class: `rp-learnt rp-${right ? "right" : "wrong"}` }, text);
    });
    this.card({
      title: this.text("feedback_title"),
      body: lines,
      actions: [button(this.text("next"), next, { kind: "first", "data-focus": true })],
    });
  }

  // What of the rater's screen bears on what is seen; told again when it changes.
  async tellDevice() {
    const detail = await describeDevice(this.main.querySelector("video"));
    const known = JSON.stringify({ ...detail, refresh_rate: 0 });
    if (known === this.device) return;
    this.device = known;
    this.link.ask("device", { detail }).catch(() => {});
  }

  // What stands before the practice, before the clips that count, and before going on with them.
  before(first) {
    const { page, practised, media } = this.state;
    const training = page === "training";
    for (const medium of media) this.shelf.get(medium).catch(() => {});
    const done = first && !training && practised;
    const lead = training ? "training_banner" : done ? "training_done" : "watch_hint";
    const keys = h("p", { class: "rp-keys" }, this.text("keys_hint"));
    this.card({
      title: this.text(training ? "training_title" : "rating_title"),
      body: [
        h("p", { class: "rp-lead" }, this.text(lead)),
        training && h("p", {}, this.text("watch_hint")),
        !done && this.setup.task === "dcr" && h("p", {}, this.text("beside_driving")),
        !done && keys,
        !first && this.progress(),
      ],
      actions: [
        button(this.text(first ? "begin" : "resume"), () => this.rate(), {
          kind: "first",
          "data-focus": true,
        }),
      ],
    });
  }

  paused() {
    this.card({
      sign: "pause",
      title: this.text("paused"),
      body: [
        h("p", { class: "rp-lead" }, this.text("paused_hint")),
        this.code(),
        this.progress(),
      ],
      actions: [
        button(this.text("resume"), () => this.turn("resume"), { kind: "first", sign: "play" }),
        this.leaving(),
      ],
    });
  }

  // Between two sessions of one rater; the button waits for as long as the rest takes.
  rest() {
    const { part, rest, undo } = this.state;
    const lead = rest > 0 ? "break_hint" : "break_over";
    const next = button(this.text("resume"), () => this.turn("next_part"), { kind: "first" });
    next.disabled = rest > 0;
    if (rest > 0) setTimeout(() => (next.disabled = false), 1000 * rest);
    this.card({
      sign: "pause",
      title: this.text("break_title"),
      body: [
        h("p", { class: "rp-lead" }, this.text(lead, { ...part, minutes: Math.ceil(rest / 60) })),
        this.code(),
      ],
      actions: [next, undo && this.back(), this.leaving()],
    });
  }

  finished() {
    const { undo, completion } = this.state;
    const { code, address } = completion;
    const kind = "rp-button rp-first";
    this.card({
      sign: "done",
      title: this.text("finished_title"),
      body: [
        h("p", { class: "rp-lead" }, this.text("finished")),
        code && this.coded("completion", "code", code),
        code && h("p", {}, this.text("completion_hint")),
        address && h("p", {}, h("a", { class: kind, href: address }, this.text("completion_return"))),
        this.coded("withdraw_code", "rater", this.state.rater),
      ],
      actions: [undo && this.back(), this.leaving()],
    });
  }

  // A text with something in it to be copied.
  coded(key, name, value) {
    const [before, after] = this.texts[key].split(`{${name}}`);
    return h("p", { class: "rp-code" }, before, h("code", {}, value), after ?? "");
  }

  back() {
    return button(this.text("undo"), () => this.turn("undo"), { sign: "undo" });
  }

  leaving() {
    return this.state.withdraw && button(this.text("withdraw"), () => this.withdraw());
  }

  withdraw() {
    const { state } = this;
    this.card({
      title: this.text("withdraw_title"),
      body: [h("p", { class: "rp-lead" }, this.text("withdraw_hint"))],
      actions: [
        button(this.text("withdraw_cancel"), () => this.show(state), { kind: "first" }),
        button(this.text("withdraw_confirm"), () => this.turn("withdraw")),
      ],
    });
  }

  withdrawn() {
    remember(this.setup.study, null);
    this.card({ title: this.text("withdrawn_title"), body: [h("p", {}, this.text("withdrawn"))] });
  }

  code() {
    const { rater } = this.state;
    if (!rater) return null; // paused before consent
    if (this.setup.alone) return h("p", {}, this.text("keep_link"));
    return this.coded("rater_id", "rater", rater);
  }

  progress() {
    const { done, total } = this.state.progress;
    const text = this.text("progress", { done, total });
    return h(
      "div",
      { class: "rp-progress" },
      h("div", {
        class: "rp-bar",
        role: "progressbar",
        "aria-label": this.text("rating_title"),
        "aria-valuemin": 0,
        "aria-valuemax": total,
        "aria-valuenow": done,
        "aria-valuetext": text,
        style: { "--done": total ? done / total : 0 },
      }),
      h("span", { class: "rp-count", "aria-hidden": "true" }, text),
    );
  }

  rate() {
    this.leave();
    this.lift(true);
    this.trial = new Trial(this);
    this.place(this.trial.node);
    this.trial.load();
  }

  showLate(late) {
    if (late === !this.late.hidden) return;
    this.late.hidden = !late;
    this.late.replaceChildren();
    if (!late) return;
    const words = this.setup ? this.texts : { unsaved: "…", retry: "↻" };
    this.late.append(
      h("span", {}, words.unsaved),
      button(words.retry, () => this.link.again(), { kind: "plain" }),
    );
  }

  showProblem(key, retry) {
    this.problem?.remove();
    const again = () => {
      this.problem.remove();
      retry();
    };
    this.problem = h(
      "div",
      { class: "rp-problem", role: "alert" },
      h("span", {}, this.text(key)),
      button(this.text("retry"), again, { kind: "plain" }),
    );
    this.root.prepend(this.problem);
  }

  key(event) {
    this.touched = true;
    this.pointed = false;
    // A notebook's own keys (1 makes a heading of a cell, Enter edits it) must not be meant.
    event.stopPropagation();
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (this.trial?.key(event)) event.preventDefault();
  }
}
