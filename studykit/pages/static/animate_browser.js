// The page that animates, in a browser.

import { AnimatePage } from "./animate.js";
import { ask } from "./api.js";
import { h } from "./elements.js";
import { topLine, wholeWindow } from "./frame.js";

async function begin() {
  const root = wholeWindow();
  root.append(topLine("studykit ", "Animate a face", h("a", { href: "docs" }, "API")));
  try {
    const options = await ask("options");
    const stated =
      `Files stay on this server while this page is open, seen by you alone, and are gone ` +
      `${options.limits.away} seconds after it is closed.`;
    new AnimatePage(root, options, { stated, around: document });
  } catch (error) {
    root.append(h("p", { class: "an-problem", role: "alert" }, error.message));
    throw error;
  }
}

begin();
