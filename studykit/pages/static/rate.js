// The rating page in a browser, for whoever has a link: /rate#KEY is one rater's own, /join/PANEL
// makes a new rater of each visitor. A key stands after the "#", which no server is sent.

import { followTheme, keep, kept } from "./browser.js";
import { h } from "./elements.js";
import { RatingPage } from "./page.js";
import { Socket } from "./socket.js";

const panel = location.pathname.match(/^\/join\/([\w-]+)$/)?.[1];
const outside = Object.fromEntries(new URLSearchParams(location.search));
const place = `rating link ${panel}`;

let key = location.hash.slice(1) || undefined;
const known = (panel && kept(place)) || undefined;

const root = h("dialog", { class: "rp", open: true });
document.body.replaceChildren(root);

const socket = new Socket("/rate/socket", () =>
  panel && !location.hash ? { panel, key, known, outside } : { key },
);
const page = new RatingPage(socket, root);

socket.onenter = (entered) => {
  key ??= entered.key;
  page.link.again();
};

socket.onrefuse = ({ refused, texts }) => {
  page.close();
  document.title = texts.title;
  followTheme(root);
  const words = [h("h1", {}, texts.title), h("p", { class: "rp-lead" }, texts[refused])];
  root.replaceChildren(h("main", { class: "rp-main" }, h("section", { class: "rp-card" }, ...words)));
};

// Loading the page again, or opening its address elsewhere, goes on with the same rater.
page.onshow = ({ rater, page: name }, verb) => {
  if (!rater || !panel) return;
  if (verb === "return") key = known;
  keep(place, ["finished", "withdrawn"].includes(name) ? null : key);
  if (!location.hash) history.replaceState(null, "", `/rate#${key}`);
};
