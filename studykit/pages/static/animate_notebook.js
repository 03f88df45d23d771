// The page that animates, in a notebook, over anywidget's messages.

import { AnimatePage } from "./animate.js";
import { ask, carriedBy } from "./api.js";
import { followTheme } from "./browser.js";
import { h, waiting } from "./elements.js";
import { Messages } from "./messages.js";

const STATED =
  "Files stay with this notebook's kernel, and are gone when it ends or this cell is run again.";

export default {
  initialize({ model }) {
    const messages = new Messages(model);
    carriedBy(messages);
    return () => messages.close();
  },

  render({ el }) {
    const root = h("div", { class: "rp an", "data-lm-suppress-shortcuts": "true" });
    const first = root.appendChild(waiting("Loading"));
    el.append(root);
    const undo = [followTheme(root)];
    ask("options").then(
      (options) => {
        first.remove();
        const page = new AnimatePage(root, options, { stated: STATED, around: root });
        undo.push(() => page.close());
      },
      (error) => first.replaceWith(h("p", { class: "an-problem", role: "alert" }, error.message)),
    );
    return () => undo.forEach((each) => each());
  },
};
