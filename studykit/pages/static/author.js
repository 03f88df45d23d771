// The author's view: who rated how much, who does not count and why, links, what went wrong.

import { followTheme } from "./browser.js";
import { button, h, waiting } from "./elements.js";

const EVERY = 15000; // milliseconds between two looks
const key = location.hash.slice(1);
const root = h("div", { class: "rp au" }, waiting("Loading"));
const live = h("div", { class: "rp-unseen", role: "status", "aria-live": "polite" });
document.body.replaceChildren(root, live);
followTheme(root);

const parts = {};
const moment = (text) =>
  new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
const day = (text) => new Date(text).toLocaleDateString(undefined, { dateStyle: "medium" });

async function ask(path, content) {
  const answer = await fetch(`/author/${path}`, {
    method: content ? "POST" : "GET",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: content && JSON.stringify(content),
  });
  if (!answer.ok) throw Object.assign(new Error(answer.status), { status: answer.status });
  return answer.json();
}

function section(name, title, ...rest) {
  const body = h("div");
  parts[name] = body;
  const id = `au-${name}`;
  return h("section", { class: "au-card", "aria-labelledby": id }, h("h2", { id }, title), ...rest, body);
}

function table(heads, rows, none) {
  if (!rows.length) return h("p", { class: "au-none" }, none);
  const head = h("tr", {}, ...heads.map((text) => h("th", { scope: "col" }, text)));
  const body = rows.map((row) => h("tr", {}, ...row.map((cell) => h("td", {}, cell))));
  const inside = h("table", {}, h("thead", {}, head), h("tbody", {}, ...body));
  return h("div", { class: "au-wide", tabindex: 0, role: "region", "aria-label": heads.join(", ") }, inside);
}

const badge = (text, kind) => h("span", { class: `au-badge au-${kind}` }, text);

function bar(done, total) {
  const share = total ? Math.min(1, done / total) : 0;
  return h(
    "div",
    { class: "au-progress" },
    h("div", { class: "rp-bar", style: { "--done": share } }),
    h("span", {}, `${done} of ${total}`),
  );
}

function frame({ study, report }) {
  const open = button("Open the report", openReport, { kind: "first" });
  const top = h("header", { class: "au-top" }, h("h1", {}, study), report && open);
  parts.figures = h("div", { class: "au-figures" });
  root.replaceChildren(
    h(
      "main",
      { class: "au-main" },
      top,
      parts.figures,
      section("raters", "Raters"),
      section("links", "Links", invitation()),
      section("failed", "Clips that did not play"),
      section("conditions", "Ratings by condition"),
    ),
  );
}

function update(data) {
  const { raters, links, failed, conditions } = data;
  const finished = raters.filter(({ done, total }) => done === total).length;
  const excluded = raters.filter((rater) => rater.excluded).length;
  const fewest = conditions.length ? Math.min(...conditions.map(({ ratings }) => ratings)) : 0;
  const figures = [
    [raters.length, "raters have begun"],
    [finished, "have finished"],
    [excluded, "do not count"],
    [`${fewest} of ${data.ratings_wanted}`, "ratings has the condition with fewest"],
  ];
  const figure = ([number, text]) => h("div", { class: "au-figure" }, h("b", {}, String(number)), h("span", {}, text));
  parts.figures.replaceChildren(...figures.map(figure));
  parts.raters.replaceChildren(
    h("p", { class: "au-words" }, raters.length ? data.words : ""),
    table(
      ["Rater", "Began", "Answered", "State", "Checks", "Screen"],
      raters.map((rater) => [
        h("code", {}, rater.rater),
        moment(rater.began),
        bar(rater.done, rater.total),
        state(rater),
        Object.entries(rater.checks)
          .map(([name, share]) => `${name} ${Math.round(100 * share)} %`)
          .join(", "),
        screen(rater.device),
      ]),
      "Nobody has begun yet. Make links below and send them to your raters.",
    ),
  );
  parts.links.replaceChildren(
    table(
      ["For", "State", "Made", "Holds until", ""],
      links.map((link) => [
        link.rater ? h("code", {}, link.rater) : { panel: "panel", author: "author" }[link.kind],
        badge(link.state, link.state === "open" ? "good" : "off"),
        day(link.created),
        day(link.expires),
        link.state === "open" && link.kind !== "author" ? closing(link) : "",
      ]),
      "No links yet besides those that the server printed when it was started.",
    ),
  );
  parts.failed.replaceChildren(
    table(
      ["Rater", "Clip", "When", "Why", "Browser"],
      failed.map(({ rater, clip, at, reason, browser }) => [h("code", {}, rater), clip, moment(at), reason, browser]),
      "All clips played on all devices.",
    ),
  );
  parts.conditions.replaceChildren(
    table(
      ["Condition", "Ratings"],
      conditions.map(({ condition, ratings }) => [condition, bar(ratings, data.ratings_wanted)]),
      "No condition has clips.",
    ),
  );
}

function state({ done, total, paused, excluded }) {
  if (excluded) return h("span", {}, badge("does not count", "warn"), ` ${excluded}`);
  if (done === total) return badge("finished", "good");
  return badge(paused ? "paused" : "under way", "off");
}

function screen({ screen_width: width, screen_height: height, refresh_rate: rate, shown_width: shown, browser }) {
  if (!width) return "";
  return `${width} × ${height}, ${rate} Hz${shown ? `, clip ${shown} px` : ""}, ${browser}`;
}

function closing({ kind, rater }) {
  const act = async () => {
    await ask("revoke", { kind, rater });
    live.textContent = "The link is closed.";
    look();
  };
  return button("Close", act, { kind: "quiet", "aria-label": `Close the link of ${rater || kind}` });
}

function invitation() {
  const count = h("input", { type: "number", min: 1, max: 1000, value: 10, id: "au-count" });
  const days = h("input", { type: "number", min: 1, max: 3650, value: 60, id: "au-days" });
  const made = h("div", { class: "au-made", hidden: true });
  const make = async (content) => {
    const links = await ask("links", { days: Number(days.value), ...content });
    const lines = links.map(({ rater, path }) => `${rater ? `${rater}\t` : ""}${location.origin}${path}`);
    const text = h("textarea", { readonly: true, rows: Math.min(8, lines.length + 1), "aria-label": "New links" });
    text.value = lines.join("\n");
    const copy = button("Copy", async () => {
      await navigator.clipboard?.writeText(text.value);
      live.textContent = "Copied.";
    }, { kind: "soft" });
    const warning = "These links are shown once: the server keeps no copy of them.";
    made.replaceChildren(h("p", {}, warning), text, copy);
    made.hidden = false;
    copy.focus();
    look();
  };
  const field = (id, text, input) => h("div", { class: "au-field" }, h("label", { for: id }, text), input);
  return h(
    "div",
    {},
    h(
      "div",
      { class: "au-invite" },
      field("au-count", "Raters", count),
      field("au-days", "Days", days),
      button("Make a link for each", () => make({ kind: "rater", count: Number(count.value) }), { kind: "first" }),
      button("Make one for a panel", () => make({ kind: "panel" }), { kind: "soft" }),
    ),
    made,
  );
}

// The window is opened at once, since a browser lets nothing open later than a click.
async function openReport() {
  const page = open("", "_blank");
  const address = await ask("report", {});
  if (page) page.location = address;
  else location.assign(address);
}

async function look() {
  clearTimeout(look.timer);
  try {
    const data = await ask("overview");
    if (!parts.raters) frame(data);
    update(data);
  } catch ({ status }) {
    if (status === 401 || status === 429) return refuse();
  }
  look.timer = setTimeout(look, EVERY);
}

function refuse() {
  const text = "This page needs the author's link, which the server prints when it is started.";
  const words = [h("h1", {}, "Author's page"), h("p", { class: "rp-lead" }, text)];
  root.replaceChildren(h("main", { class: "rp-main" }, h("section", { class: "rp-card" }, ...words)));
}

look();
