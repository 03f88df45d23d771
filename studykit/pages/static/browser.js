// What the page knows of the browser that it is in, and keeps there.

// A browser may forbid to keep anything: then a page that is loaded again knows of nothing.
export function keep(name, text) {
  try {
    if (text === null) localStorage.removeItem(name);
    else localStorage.setItem(name, text);
  } catch {}
}

export function kept(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export const remember = (study, rater) => keep(`rating ${study}`, rater);
export const recall = (study) => kept(`rating ${study}`);
export const draftKey = ({ setup, state }) => `rating ${setup.study} ${state.rater} ${state.number}`;

// The screen, how finely and how often it draws, and the width at which a clip is shown, in CSS
// pixels; and nothing that tells one device from another of its kind.
export async function describeDevice(clip) {
  return {
    screen_width: screen.width,
    screen_height: screen.height,
    window_width: innerWidth,
    window_height: innerHeight,
    pixel_ratio: devicePixelRatio,
    zoom: visualViewport?.scale ?? 1,
    refresh_rate: await refreshRate(),
    shown_width: Math.round(clip?.getBoundingClientRect().width ?? 0),
    touch: Number(matchMedia("(hover: none)").matches),
    browser: navigator.userAgent.match(/(Firefox|Edg|OPR|Chrome|Version)\/\d+/)?.[0] ?? "other",
  };
}

// Pictures a second, from the median of some; 0 where the page is hidden and none are drawn.
function refreshRate() {
  return new Promise((resolve) => {
    const times = [];
    const give = () => {
      const apart = times.slice(1).map((time, i) => time - times[i]);
      resolve(apart.length ? Math.round(1000 / apart.sort((a, b) => a - b)[apart.length >> 1]) : 0);
    };
    const drawn = (time) => (times.push(time) < 31 ? requestAnimationFrame(drawn) : give());
    requestAnimationFrame(drawn);
    setTimeout(give, 2000);
  });
}

// Light or dark as the notebook is, where it says so; else as the system is.
export function followTheme(root) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const update = () => {
    const alone = document.documentElement.classList.contains("rp-alone");
    const said = alone ? null : document.body.dataset.jpThemeLight;
    const colab = document.documentElement.getAttribute("theme");
    const dark = said ? said === "false" : colab ? colab === "dark" : system.matches;
    root.dataset.theme = dark ? "dark" : "light";
    if (alone) document.documentElement.dataset.theme = root.dataset.theme;
  };
  const watch = new MutationObserver(update);
  watch.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  watch.observe(document.documentElement, { attributeFilter: ["theme", "class"] });
  system.addEventListener("change", update);
  update();
  return () => {
    watch.disconnect();
    system.removeEventListener("change", update);
  };
}
