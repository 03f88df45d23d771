// The rating page in a notebook, over anywidget's messages.

import { h } from "./elements.js";
import { RatingPage } from "./page.js";

export default {
  render({ model, el }) {
    const root = h("dialog", { class: "rp", open: true, "data-lm-suppress-shortcuts": "true" });
    el.append(root);
    const page = new RatingPage(model, root);
    return () => page.close();
  },
};
