// Videos beside each other, and the buttons that play them in step.

import { button, h, icon } from "./elements.js";

export function video(src, label) {
  const node = h("video", { src, playsinline: true, preload: "auto", "aria-label": label });
  node.muted = true;
  return node;
}

export const figure = (node, text) => h("figure", {}, node, h("figcaption", {}, text));

// Play and pause, a frame back, a frame on.
export function transport(player) {
  const play = button("Play", () => (player.playing ? player.pause() : player.play()), {
    kind: "first",
    sign: "play",
  });
  player.onchange = () => {
    play.lastChild.textContent = player.playing ? "Pause" : "Play";
    play.firstChild.replaceWith(icon(player.playing ? "pause" : "play"));
  };
  return [
    play,
    button("Frame back", () => player.step(-1), { kind: "soft", sign: "back", short: true }),
    button("Frame on", () => player.step(1), { kind: "soft", sign: "step", short: true }),
  ];
}
