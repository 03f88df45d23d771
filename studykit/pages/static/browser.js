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
