// A study to its author: the matrix by type, which fills while cells are made; a cell in full.

import { button, h, icon } from "./elements.js";
import { topLine, wholeWindow } from "./frame.js";
import { Player } from "./player.js";
import { figure, transport, video } from "./stage.js";

const EVERY = 1500; // milliseconds between two looks while it runs; three times that otherwise
const key = location.hash.slice(1);

class Refused extends Error {}

async function ask(path, verb = "GET") {
  const answer = await send(path, verb);
  return answer.json();
}

async function send(path, verb) {
  const answer = await fetch(`study/${path}`, {
    method: verb,
    headers: { authorization: `Bearer ${key}` },
  }).catch(() => {
    throw new Refused("The server can't be reached: is studykit serve still running?");
  });
  if (answer.ok) return answer;
  const { detail } = await answer.json().catch(() => ({}));
  const closed = "This page needs the link that studykit serve prints when it is started.";
  throw new Refused(answer.status === 401 ? closed : detail ?? "The server did not answer.");
}

class StudyPage {
  constructor(root, state) {
    Object.assign(this, { root, state, method: state.methods[0], squares: new Map() });
    this.run = button("", () => this.toggle(), { kind: "first" });
    this.says = h("p", { class: "an-quiet", role: "status" });
    this.bar = h("progress", { max: 1, "aria-label": "Cells that are made" });
    this.tabs = h("div", { class: "an-tabs", role: "group", "aria-label": "Method" });
    this.grid = h("div", { class: "an-grid" });
    this.report = null; // not drawn yet
    this.panel = h("section", { class: "an-card an-cell", "aria-label": "Cell", hidden: true });
    const top = topLine(state.name, "Study");
    this.more = top.querySelector("nav");
    root.replaceChildren(
      top,
      h(
        "main",
        { class: "an-study" },
        h("section", { class: "an-card an-run", "aria-label": "Run" }, this.run, this.bar, this.says),
        h("div", { class: "an-view" }, this.tabs, this.grid),
        this.panel,
      ),
    );
    this.draw();
    this.follow();
  }

  async follow() {
    while (this.root.isConnected) {
      const every = EVERY * (document.hidden ? 5 : this.state.running ? 1 : 3);
      await new Promise((passed) => setTimeout(passed, every));
      await this.look();
    }
  }

  // The server says nothing where nothing is new.
  async look() {
    try {
      const answer = await send(`state?seen=${this.tag ?? ""}`);
      if (answer.status === 204) return;
      this.tag = answer.headers.get("etag")?.replaceAll('"', "");
      this.update(await answer.json());
    } catch (error) {
      this.tag = "";
      this.says.textContent = error.message;
    }
  }

  async toggle() {
    if (this.busy) return; // a second click would undo the first
    this.busy = true;
    try {
      await ask(this.state.running ? "stop" : "start", "POST");
      await this.look();
    } catch (error) {
      this.says.textContent = error.message;
    } finally {
      this.busy = false;
    }
  }

  update(state) {
    this.state = state;
    this.draw();
    const open = state.cells.find(({ name }) => name === this.open);
    if (open && open.clip + open.state !== this.seen) this.show(open);
  }

  draw() {
    const { cells, running, says, failed, methods, report, raters } = this.state;
    if (this.report !== report) {
      this.report = report;
      this.more.replaceChildren(
        ...(raters ? [h("a", { href: `author#${key}` }, "Raters")] : []),
        ...(report ? [h("a", { href: report, target: "_blank", rel: "noopener" }, "Report")] : []),
      );
    }
    const done = cells.filter(({ state }) => state === "done").length;
    const wrong = cells.filter(({ state }) => state === "failed").length;
    this.bar.value = done / cells.length;
    const tried = done + wrong === cells.length;
    const next = tried && wrong ? "Try again" : tried && report ? "Update the report" : "Go on";
    const words = running ? "Stop" : done || wrong ? next : "Start";
    if (this.words !== words) {
      this.words = words;
      this.run.replaceChildren(icon(running ? "stop" : "play"), words);
    }
    const counts = `${done} of ${cells.length} cells made${wrong ? `, ${wrong} failed` : ""}`;
    const at = /cell \d+\/\d+ (\S+?):? +\d+%.*<([\d:]+)/.exec(says);
    const now = at ? `Making ${at[1]}, ${at[2]} left for all` : says;
    this.says.textContent = (running || failed) && now ? `${counts}. ${now}` : counts;
    if (this.drawn !== this.method) {
      this.drawn = this.method;
      this.tabs.replaceChildren(...methods.map((method) => this.tab(method)));
      this.grid.replaceChildren(this.table());
    }
    for (const cell of cells) this.square(cell);
  }

  tab(method) {
    const choose = () => {
      this.method = method;
      this.draw();
    };
    const pressed = String(method === this.method);
    return h("button", { type: "button", class: "an-tab", "aria-pressed": pressed, onclick: choose }, method);
  }

  // Rows are sources, columns drivings, both in the order of their types.
  table() {
    this.squares.clear();
    this.inView?.disconnect();
    // A browser holds some hundred videos: those of the squares in view, once they stay there.
    this.inView = new IntersectionObserver((changes) => {
      for (const { target, isIntersecting } of changes) {
        const place = this.squares.get(target.name);
        clearTimeout(place.waits);
        place.near = isIntersecting;
        place.waits = setTimeout(() => this.film(place), 150);
      }
    });
    const { sources, drivings, cells } = this.state;
    const named = ({ name, type }) => [h("small", {}, type), name.replace(`${type}-`, "")];
    const mine = cells.filter(({ method }) => method === this.method);
    const pair = (source, driving) => JSON.stringify([source, driving]);
    const pairs = new Map(mine.map((cell) => [pair(cell.source, cell.driving), cell]));
    const find = (source, driving) => pairs.get(pair(source.name, driving.name));
    const place = ({ name }) => {
      const square = h(
        "button",
        {
          type: "button",
          class: "an-place",
          name,
          tabindex: this.squares.size ? -1 : 0,
          onclick: () => this.choose(name),
          onfocus: () => this.reached(square),
          onkeydown: (event) => this.move(event),
        },
        h("span", {}),
      );
      this.squares.set(name, { square, clip: "", near: false });
      this.inView.observe(square);
      return square;
    };
    const row = (source) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, ...named(source)),
        ...drivings.map((driving) => {
          const cell = find(source, driving);
          return h("td", {}, cell ? place(cell) : "");
        }),
      );
    const head = drivings.map((driving) => h("th", { scope: "col" }, ...named(driving)));
    return h(
      "table",
      { style: { "--across": drivings.length } },
      h("thead", {}, h("tr", {}, h("td", {}, "source \\ driving"), ...head)),
      h("tbody", {}, ...sources.map(row)),
    );
  }

  square({ name, state, share, clip }) {
    const place = this.squares.get(name);
    if (!place) return;
    const { square } = place;
    square.dataset.state = state;
    square.setAttribute("aria-label", `${name}: ${state}`);
    square.setAttribute("aria-pressed", String(name === this.open));
    square.style.setProperty("--done", share);
    if (place.clip === clip) return;
    place.clip = clip;
    this.film(place);
  }

  film({ square, clip, near }) {
    const wanted = near && clip ? `${clip}#t=0.1` : "";
    const held = square.querySelector("video");
    if ((held?.getAttribute("src") ?? "") === wanted) return;
    const video = wanted && h("video", { src: wanted, preload: "metadata", playsinline: true });
    if (video) video.muted = true;
    square.onpointerenter = video && (() => video.play().catch(() => {}));
    square.onpointerleave = video && (() => video.pause());
    square.replaceChildren(video || h("span", {}));
    held?.removeAttribute("src"); // else it is held until somebody counts what is still used
    held?.load();
  }

  // Tab leads to one square, arrows to all others.
  reached(square) {
    this.grid.querySelector('.an-place[tabindex="0"]')?.setAttribute("tabindex", -1);
    square.setAttribute("tabindex", 0);
  }

  move(event) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (!steps[event.key]) return;
    event.preventDefault();
    const [down, right] = steps[event.key];
    let [row, column] = [event.target.closest("tr").rowIndex, event.target.closest("td").cellIndex];
    const { rows } = this.grid.querySelector("table");
    while (rows[(row += down)]?.cells[(column += right)]) {
      const next = rows[row].cells[column].querySelector("button");
      if (next) return next.focus();
    }
  }

  // ---------------------------------------------------------------- one cell

  choose(name) {
    this.open = name;
    this.draw();
    this.show(this.state.cells.find((cell) => cell.name === name));
  }

  async show(cell) {
    this.seen = cell.clip + cell.state;
    this.panel.hidden = false;
    const title = h("h2", { tabindex: -1 }, cell.name);
    const body = h("div", { class: "an-stage" }, h("p", { class: "an-quiet" }, "Looking at it"));
    const verb = cell.state === "missing" ? "Make this one" : "Make again";
    const again = button(verb, () => this.again(cell.name), { kind: "soft", sign: "replay" });
    const close = () => {
      this.panel.hidden = true;
      this.squares.get(cell.name)?.square.focus();
      this.open = null;
      this.draw();
    };
    const shut = button("Close", close, { kind: "soft" });
    this.panel.replaceChildren(h("header", {}, title, h("div", { class: "an-row" }, again, shut)), body);
    title.focus();
    try {
      const found = await ask(`cell/${encodeURIComponent(cell.name)}`);
      if (this.open !== cell.name) return;
      body.replaceChildren(...this.inside(found));
      this.panel.scrollIntoView({ behavior: "smooth", block: "nearest" });
    } catch (error) {
      body.replaceChildren(h("p", { class: "an-problem", role: "alert" }, error.message));
    }
  }

  async again(name) {
    this.panel.querySelector(".an-refused")?.remove();
    try {
      await ask(`start?only=${encodeURIComponent(name)}`, "POST");
      await this.look();
    } catch (error) {
      const said = h("p", { class: "an-problem an-refused", role: "alert" }, error.message);
      this.panel.querySelector(".an-stage").prepend(said);
    }
  }

  inside({ row, settings, metrics, files, problem, frame_rate: rate }) {
    const clip = files.clip && video(files.clip, "Clip");
    const driving = files.driving && video(files.driving, "Driving");
    const both = [clip, driving].filter(Boolean);
    const parts = [
      h(
        "div",
        { class: "an-stages" },
        files.source && figure(h("img", { src: files.source, alt: "Source" }), "Source"),
        driving && figure(driving, "Driving"),
        clip && figure(clip, "Clip"),
      ),
    ];
    if (both.length)
      parts.push(h("div", { class: "an-row an-controls" }, ...transport(new Player(both, rate))));
    if (problem && problem !== row?.error) {
      parts.push(h("p", { class: "an-problem", role: "alert" }, `The inputs can't be shown: ${problem}`));
    }
    if (row?.error) parts.push(h("p", { class: "an-problem", role: "alert" }, row.error));
    if (row?.note) parts.push(h("p", { class: "an-quiet an-said" }, row.note));
    const said = (title, rows) =>
      rows.length > 0 &&
      h(
        "div",
        { class: "an-figures" },
        h("h3", {}, title),
        h(
          "table",
          {},
          ...rows.map((cells) => h("tr", {}, ...cells.map((cell, n) => h(n ? "td" : "th", {}, cell)))),
        ),
      );
    const about = row
      ? [
          ["frames", String(row.frames)],
          ["seconds", row.seconds.toFixed(1)],
          ["device", row.device],
          ["weights", row.weights],
          ...Object.entries(settings).map(([name, value]) => [name, String(value)]),
        ].filter(([, value]) => value)
      : [];
    const measured = metrics.map(({ metric, value, unit, better }) => [
      metric.replaceAll("_", " "),
      `${Number(value).toPrecision(4)} ${unit}`,
      better && `${better} is better`,
    ]);
    parts.push(h("div", { class: "an-both" }, said("Metrics", measured), said("How it was made", about)));
    return parts;
  }
}

async function begin() {
  const root = wholeWindow();
  try {
    new StudyPage(root, await ask("state"));
  } catch (error) {
    root.append(h("main", {}, h("p", { class: "an-problem", role: "alert" }, error.message)));
    if (!(error instanceof Refused)) throw error;
  }
}

begin();
