// Which method animates, with which settings: a line of explanation each.

import { h } from "./elements.js";

const SIZES = [128, 256, 384, 512];
const SHOWS = [
  ["square", "the square"],
  ["picture", "the whole picture"],
  ["faces", "the picture, all faces"],
];

export class Methods {
  constructor(methods, onchange) {
    Object.assign(this, { methods, onchange, values: {} });
    this.cards = h("div", { class: "an-methods", role: "radiogroup", "aria-label": "Method" });
    this.settings = h("div", { class: "an-settings" });
    this.size = h(
      "select",
      { onchange },
      ...SIZES.map((size) => h("option", { value: size, selected: size === 256 }, `${size} pixels`)),
    );
    this.shows = h(
      "select",
      { onchange },
      ...SHOWS.map(([value, text]) => h("option", { value }, text)),
    );
    for (const method of methods) this.cards.append(this.card(method));
    this.node = h(
      "div",
      { class: "an-view" },
      this.cards,
      h(
        "details",
        { class: "an-more" },
        h("summary", {}, "Settings"),
        this.settings,
        this.field("Size of the clip", this.size, "Larger shows more detail, and takes longer."),
        this.field("The clip shows", this.shows, "What is outside the square stays still."),
      ),
    );
    this.draw();
  }

  card({ name, label, text }) {
    const radio = h("input", {
      type: "radio",
      name: "an-method",
      value: name,
      checked: name === "auto",
      onchange: () => this.draw() ?? this.onchange(),
    });
    return h(
      "label",
      { class: "an-method" },
      radio,
      h("span", {}, h("strong", {}, label), h("small", {}, text)),
    );
  }

  field(title, select, text) {
    return h("label", { class: "an-field" }, h("span", {}, title), select, h("small", {}, text));
  }

  get method() {
    return this.cards.querySelector(":checked").value;
  }

  get asked() {
    const settings = {};
    for (const { name, default: usual } of this.shown) {
      const value = this.values[`${this.method} ${name}`];
      if (value !== undefined && value !== usual) settings[name] = value;
    }
    return {
      method: this.method,
      settings,
      size: Number(this.size.value),
      shows: this.shows.value,
    };
  }

  get shown() {
    return this.methods.find(({ name }) => name === this.method).settings;
  }

  draw() {
    this.settings.replaceChildren(...this.shown.map((setting) => this.setting(setting)));
  }

  setting(setting) {
    const key = `${this.method} ${setting.name}`;
    const value = this.values[key] ?? setting.default;
    const change = (now) => {
      this.values[key] = now;
      this.onchange();
    };
    const explained = h("small", {}, setting.text);
    const title = h("span", {}, setting.label);
    if (typeof setting.default === "boolean") {
      const box = h("input", {
        type: "checkbox",
        checked: value,
        onchange: () => change(box.checked),
      });
      return h("label", { class: "an-check" }, box, h("span", {}, title, explained));
    }
    if (setting.choices.length) {
      const select = h(
        "select",
        { onchange: () => change(select.value) },
        ...setting.choices.map((choice) => h("option", { selected: choice === value }, choice)),
      );
      return this.field(setting.label, select, setting.text);
    }
    const now = h("span", { class: "an-value" }, String(value)); // an output would take the label
    const { low, high, step } = setting;
    const slider = h("input", {
      type: "range",
      min: low,
      max: high,
      step,
      value,
      oninput: () => (now.textContent = slider.value),
      onchange: () => change(Number(slider.value)),
    });
    return h("label", { class: "an-field" }, h("span", {}, setting.label, now), slider, explained);
  }
}
