// What pages are built of.

const ICONS = {
  play: "M8 5.6v12.8a.8.8 0 0 0 1.2.7l10.4-6.4a.8.8 0 0 0 0-1.4L9.2 4.9A.8.8 0 0 0 8 5.6Z",
  replay: "M12 5V2L7 6l5 4V7a5.5 5.5 0 1 1-5.3 7h-2A7.5 7.5 0 1 0 12 5Z",
  pause: "M7 5h3.6v14H7zM13.4 5H17v14h-3.6z",
  undo: "M10 8V4l-7 6.5L10 17v-4.2c4.8 0 8 1.5 10.4 4.9-.8-4.9-3.7-9-10.4-9.7Z",
  step: "M6 5.6v12.8l8.5-6.4zM16 5h2.6v14H16z",
  sound: "M4 9v6h4l5 4.5v-15L8 9zM16 8.3a5 5 0 0 1 0 7.4M18.5 5.8a8.5 8.5 0 0 1 0 12.4",
  done: "M9.5 16.6 5 12.1l-1.5 1.5 6 6 11-11L19 7.1z",
  back: "M18 5.6v12.8L9.5 12zM8 16H5.4V5H8z",
  stop: "M7 7h10v10H7z",
  record: "M12 6a6 6 0 1 0 0 12 6 6 0 0 0 0-12Z",
  folder: "M4 5.5h5.5l2 2H20a1 1 0 0 1 1 1v9a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 17.5v-11a1 1 0 0 1 1-1Z",
  camera: "M9 4 7.5 6H4a1.5 1.5 0 0 0-1.5 1.5v10A1.5 1.5 0 0 0 4 19h16a1.5 1.5 0 0 0 1.5-1.5v-10A1.5 1.5 0 0 0 20 6h-3.5L15 4Zm3 4.5a4 4 0 1 1 0 8 4 4 0 0 1 0-8Z",
  picture: "M4 4h16a1.5 1.5 0 0 1 1.5 1.5v13A1.5 1.5 0 0 1 20 20H4a1.5 1.5 0 0 1-1.5-1.5v-13A1.5 1.5 0 0 1 4 4Zm.5 13.5h15l-4.7-6.5-3.7 4.7-2.5-3ZM8 7a1.8 1.8 0 1 0 0 3.6A1.8 1.8 0 0 0 8 7Z",
  film: "M4 4.5h16A1.5 1.5 0 0 1 21.5 6v12a1.5 1.5 0 0 1-1.5 1.5H4A1.5 1.5 0 0 1 2.5 18V6A1.5 1.5 0 0 1 4 4.5Zm.5 2v2h2v-2Zm0 4.5v2h2v-2Zm0 4.5v2h2v-2Zm13-9v2h2v-2Zm0 4.5v2h2v-2Zm0 4.5v2h2v-2ZM10 8.5v7l5.5-3.5Z",
  warning: "M12 3 1.5 21h21Zm-1 7h2v5h-2Zm0 6.5h2v2h-2Z",
  down: "M11 3.5h2v9l3.5-3.5 1.4 1.4L12 16.4l-5.9-6L7.5 9l3.5 3.5ZM5 18.5h14v2H5z",
  study: "M4 4h7v7H4Zm9 0h7v7h-7ZM4 13h7v7H4Zm9 0h7v7h-7Z",
  wipe: "M4 5h7v14H4Zm8.5-2h1.5v18h-1.5ZM15.5 5H20v14h-4.5v-2H18V7h-2.5Z",
  logo: "M12 2.5a9.5 9.5 0 1 0 0 19 9.5 9.5 0 0 0 0-19ZM8.5 8.5a1.4 1.4 0 1 1 0 2.8 1.4 1.4 0 0 1 0-2.8Zm7 0a1.4 1.4 0 1 1 0 2.8 1.4 1.4 0 0 1 0-2.8ZM7 14h10a5 5 0 0 1-10 0Z",
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
