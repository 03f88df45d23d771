// What was asked for: how far it is, what came out of it in step with its driving, two beside each
// other, and what is taken along.

import { address, post, remove, request, show } from "./api.js";
import { button, h, icon } from "./elements.js";
import { Player } from "./player.js";
import { figure, transport, video } from "./stage.js";

const OPEN = ["waiting", "running"];
const DOWNLOADS = [
  ["clip.mp4", "MP4", "the clip"],
  ["side-by-side.mp4", "MP4, side by side", "picture, driving and clip"],
  ["clip.gif", "GIF", "moves everywhere, without sound"],
  ["still.png", "PNG", "the frame that is shown"],
];

const remarks = (text) =>
  h("ul", { class: "an-notes" }, ...text.split("; ").map((each) => h("li", { class: "an-note" }, each)));

export const length = (time) =>
  time < 100 ? `${Math.ceil(time)} s` : `${Math.ceil(time / 60)} min`;

export class Results {
  constructor({ say, onpaste, signed }) {
    Object.assign(this, { say, onpaste, signed });
    this.all = [];
    this.chosen = this.other = null;
    this.tabs = h("div", { class: "an-tabs", role: "group", "aria-label": "Animations" });
    this.stage = h("div", { class: "an-stage" });
    this.node = h(
      "section",
      { class: "an-card an-results", "aria-labelledby": "an-results", hidden: true },
      h("header", {}, h("h2", { id: "an-results" }, "Result"), this.tabs),
      this.stage,
    );
  }

  get current() {
    return this.all.find(({ id }) => id === this.chosen);
  }

  choose(id) {
    this.chosen = id;
    this.other = null;
    this.draw();
  }

  update(all) {
    const before = new Map(this.all.map((each) => [each.id, each]));
    this.all = all;
    this.node.hidden = !all.length;
    let ended = false;
    for (const each of all) {
      const { id, state, problem } = each;
      if (!before.has(id)) this.chosen = id;
      const was = before.get(id)?.state;
      if (!was || was === state || OPEN.includes(state)) continue;
      this.say(state === "done" ? `${named(each)}: done` : `${named(each)}: ${problem || state}`);
      ended ||= id === this.chosen;
    }
    if (!this.current) this.chosen = all.at(-1)?.id ?? null;
    this.draw();
    if (ended) this.node.scrollIntoView({ behavior: "smooth", block: "nearest" });
  }

  draw() {
    this.tabs.replaceChildren(
      ...this.all.map((each, index) =>
        h(
          "button",
          {
            type: "button",
            class: "an-tab",
            "aria-pressed": String(each.id === this.chosen),
            onclick: () => this.choose(each.id),
          },
          `${index + 1} ${named(each)}`,
          OPEN.includes(each.state) && h("span", { class: "an-dot", title: each.state }),
        ),
      ),
    );
    const { current } = this;
    if (!current) {
      this.stage.replaceChildren();
      this.drawn = null;
      return;
    }
    const others = this.others.map(({ id }) => id).join();
    const key = [current.id, current.state, this.other, others].join(" ");
    if (key !== this.drawn) {
      this.drawn = key;
      const parts = { done: () => this.done(), waiting: () => this.open(), running: () => this.open() };
      const focused = this.stage.contains(document.activeElement);
      this.stage.replaceChildren(...(parts[current.state] ?? (() => this.failed()))());
      if (focused) this.stage.querySelector("button")?.focus({ preventScroll: true });
    }
    if (OPEN.includes(current.state)) this.progress();
  }

  // ---------------------------------------------------------------- while it is made

  open() {
    this.bar = h("progress", { max: 1, "aria-label": "Progress" });
    this.words = h("p", { class: "an-progress-words" });
    this.frames = h("div", { class: "an-tiles an-frames", "aria-hidden": "true" });
    const stop = () => post(`animations/${this.chosen}/stop`).catch(() => {});
    return [
      h(
        "div",
        { class: "an-progress" },
        this.words,
        this.bar,
        button("Stop", stop, { kind: "soft", sign: "stop" }),
      ),
      this.frames,
    ];
  }

  progress() {
    const { id, place, frame, frames, seconds_left: left, previews } = this.current;
    if (frames) this.bar.value = frame / frames;
    else this.bar.removeAttribute("value");
    const waiting = place === null ? "Getting ready" : place ? `${place} before you` : "Next in turn";
    const time = left === null ? "" : `, ${length(left)} left`;
    const done = frame >= frames ? "Finishing" : `Frame ${frame} of ${frames}${time}`;
    this.words.textContent = frames ? done : waiting;
    for (let number = this.frames.childElementCount; number < previews; number++)
      this.frames.append(show(h("img", { alt: "" }), `animations/${id}/previews/${number}`));
  }

  failed() {
    const { state, problem, id } = this.current;
    const text = state === "stopped" ? "Stopped. Nothing of it was kept." : problem;
    return [
      h(
        "div",
        { class: "an-failed", role: state === "failed" ? "alert" : null },
        icon(state === "failed" ? "warning" : "stop"),
        h(
          "div",
          {},
          h("p", { class: "an-strong" }, state === "failed" ? "This could not be animated" : text),
          state === "failed" && h("p", {}, text),
          h("p", { class: "an-quiet" }, "Your files are still here: change what you like and try again."),
        ),
        button("Remove", () => remove(`animations/${id}`).catch(() => {}), { kind: "soft" }),
      ),
    ];
  }

  // ---------------------------------------------------------------- what came out

  get others() {
    return this.all.filter(({ id, state }) => id !== this.chosen && state === "done");
  }

  done() {
    const { result } = this.current;
    const other = this.all.find(({ id }) => id === this.other);
    const from = ({ id }, file, label) => show(video(null, label), `animations/${id}/${file}`);
    const clip = from(this.current, "clip.mp4", "Clip");
    const driving = from(this.current, "driving.mp4", "Driving");
    clip.muted = !result.sound;
    const second = other && from(other, "clip.mp4", "Clip");
    this.player = new Player(second ? [clip, driving, second] : [clip, driving], result.frame_rate);
    const pair = second && [clip, second];
    const texts = second && [this.label(this.current), this.label(other)];
    const tiles = h(
      "div",
      { class: "an-stages" },
      figure(driving, "Driving"),
      ...(second
        ? [this.wipe ? this.wiped(pair, texts) : pair.map((node, n) => figure(node, texts[n]))].flat()
        : [figure(clip, `Clip: ${named(this.current)}`)]),
    );
    return [
      tiles,
      this.controls(second),
      result.note && remarks(result.note),
      this.taken(),
    ].filter(Boolean);
  }

  label(made) {
    return `${this.all.findIndex(({ id }) => id === made.id) + 1} ${named(made)}`;
  }

  // One clip over the other, up to a line that is moved.
  wiped([first, second], texts) {
    const line = h("input", {
      type: "range",
      min: 0,
      max: 100,
      value: 50,
      "aria-label": `Where ${texts[0]} ends and ${texts[1]} begins`,
      oninput: () => both.style.setProperty("--at", `${line.value}%`),
    });
    const both = h("div", { class: "an-wipe" }, second, first, h("span", { class: "an-edge" }), line);
    both.style.setProperty("--at", "50%");
    return h(
      "figure",
      {},
      both,
      h("figcaption", { class: "an-between" }, h("span", {}, texts[0]), h("span", {}, texts[1])),
    );
  }

  controls(second) {
    const { player } = this;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const repeat = h("input", { type: "checkbox", checked: !still });
    const mute = h("input", { type: "checkbox", checked: true });
    const [clip] = player.videos;
    mute.onchange = () => (clip.muted = !mute.checked);
    player.onend = () => repeat.checked && player.videos[0].isConnected && player.play();
    const speed = h(
      "select",
      { "aria-label": "Speed", onchange: () => player.setRate(Number(speed.value)) },
      ...[0.25, 0.5, 1].map((rate) => h("option", { value: rate, selected: rate === 1 }, `${rate} x`)),
    );
    player.ready().then(() => !still && player.play()).catch(() => {}); // such as by a pause
    const compare = h(
      "select",
      { "aria-label": "Compare with", onchange: () => this.compare(compare.value) },
      h("option", { value: "" }, "Compare with ..."),
      ...this.others.map((each) =>
        h("option", { value: each.id, selected: each.id === this.other }, this.label(each)),
      ),
    );
    const wipe = () => {
      this.wipe = !this.wipe;
      this.drawn = null;
      this.draw();
    };
    return h(
      "div",
      { class: "an-row an-controls" },
      ...transport(player),
      speed,
      h("label", { class: "an-check" }, repeat, h("span", {}, "Repeat")),
      this.current.result.sound && h("label", { class: "an-check" }, mute, h("span", {}, "Sound")),
      this.others.length > 0 && compare,
      second && button(this.wipe ? "Side by side" : "Wipe", wipe, { kind: "soft", sign: "wipe" }),
    );
  }

  compare(id) {
    this.other = id || null;
    this.draw();
  }

  taken() {
    const { id, asked, result } = this.current;
    const mark = h("input", { type: "checkbox" });
    const links = DOWNLOADS.map(([form, text, what]) =>
      h(
        "a",
        {
          class: "an-take",
          href: address(`animations/${id}/download/${form}`),
          download: "",
          onclick: (event) => this.follow(event, form, mark.checked),
        },
        icon("down"),
        h("span", {}, h("strong", {}, text), h("small", {}, form === "clip.mp4" && result.sound ? `${what}, with its sound` : what)),
      ),
    );
    links.push(
      h(
        "a",
        {
          class: "an-take",
          href: address(`animations/${id}/download/study.zip`),
          download: "",
          onclick: (event) => this.follow(event, "study.zip", false),
        },
        icon("study"),
        h("span", {}, h("strong", {}, "Make a study of this"), h("small", {}, "a study file, both inputs")),
      ),
    );
    const back = h(
      "button",
      { type: "button", class: "an-take", onclick: () => this.onpaste(asked) },
      icon("picture"),
      h("span", {}, h("strong", {}, "Whole picture"), h("small", {}, "the face put back into it")),
    );
    const said = this.signed
      ? "Every file says that it is synthetic, and is signed by this installation (C2PA, a signer that nobody vouches for)."
      : "Every file says that it is synthetic.";
    return h(
      "div",
      { class: "an-along" },
      h("h3", {}, "Download"),
      h("div", { class: "an-takes" }, ...links, asked.shows === "square" && back),
      h(
        "label",
        { class: "an-check" },
        mark,
        h("span", {}, "Write SYNTHETIC into the picture", h("small", {}, said)),
      ),
      h(
        "div",
        { class: "an-row" },
        button("Remove this animation", () => remove(`animations/${id}`).catch(() => {}), {}),
      ),
    );
  }

  // The address says how it is wanted; what goes wrong is said here and not on another page.
  async follow(event, form, mark) {
    event.preventDefault();
    const { id } = this.current;
    const link = event.currentTarget;
    const at = form === "still.png" ? this.player.videos[0].currentTime : 0;
    const path = `animations/${id}/download/${form}?mark=${mark}&at=${at.toFixed(3)}`;
    link.classList.add("an-making");
    try {
      const response = await request(path);
      const suggested = /filename="?([^";]+)/.exec(response.headers.get("content-disposition"));
      const url = URL.createObjectURL(await response.blob());
      h("a", { href: url, download: suggested?.[1] ?? form }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60000);
    } catch (error) {
      this.say(error.message, true);
    } finally {
      link.classList.remove("an-making");
    }
  }
}

// An animation in a few words: "warp, strength 2".
const named = ({ asked, result }) => {
  const { shows, settings } = asked;
  const method = result?.method ?? asked.method;
  const changed = Object.entries(settings ?? {}).map(([name, value]) => `${name} ${value}`);
  const what = { picture: "whole picture", faces: "all faces" }[shows];
  return [method, what, ...changed].filter(Boolean).join(", ");
};
