// What pages are built of.

const ICONS = {
  play: "M8 5.6v12.8a.8.8 0 0 0 1.2.7l10.4-6.4a.8.8 0 0 0 0-1.4L9.2 4.9A.8.8 0 0 0 8 5.6Z",
  replay: "M12 5V2L7 6l5 4V7a5.5 5.5 0 1 1-5.3 7h-2A7.5 7.5 0 1 0 12 5Z",
  pause: "M7 5h3.6v14H7zM13.4 5H17v14h-3.6z",
  undo: "M10 8V4l-7 6.5L10 17v-4.2c4.8 0 8 1.5 10.4 4.9-.8-4.9-3.7-9-10.4-9.7Z",
  step: "M6 5.6v12.8l8.5-6.4zM16 5h2.6v14H16z",
  sound: "M4 9v6h4l5 4.5v-15L8 9zM16 8.3a5 5 0 0 1 0 7.4M18.5 5.8a8.5 8.5 0 0 1 0 12.4",
  done: "M9.5 16.6 5 12.1l-1.5 1.5 6 6 11-11L19 7.1z",
};

export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    // A style as text would be inline, which the page's own policy forbids.
    else if (name === "style") for (const key in value) node.style.setProperty(key, value[key]);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null && child !== false));
  return node;
}

export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", `rp-icon rp-icon-${name}`);
  const path = svg.appendChild(document.createElementNS(space, "path"));
  path.setAttribute("d", ICONS[name]);
  return svg;
}

// What stands where something is on its way.
export function waiting(word) {
  return h(
    "div",
    { class: "rp-waiting", role: "status" },
    h("div", { class: "rp-spinner", "aria-hidden": "true" }),
    h("p", {}, word),
  );
}

export function button(text, onclick, { kind = "quiet", sign, short, ...attributes } = {}) {
  const label = h("span", { class: short ? "rp-long" : null }, text);
  const all = { type: "button", class: `rp-button rp-${kind}`, onclick, ...attributes };
  return h("button", short ? { "aria-label": text, ...all } : all, sign && icon(sign), label);
}
