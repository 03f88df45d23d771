// What is around the pages that visitors and authors work on: the whole window, and a line above.

import { followTheme } from "./browser.js";
import { h, icon } from "./elements.js";

export function wholeWindow() {
  const root = h("div", { class: "rp an" });
  document.body.replaceChildren(root);
  followTheme(root);
  return root;
}

export const topLine = (name, what, ...links) =>
  h(
    "header",
    { class: "an-top" },
    h("h1", {}, icon("logo"), name, h("span", {}, what)),
    h("nav", { "aria-label": "More" }, ...links),
  );
