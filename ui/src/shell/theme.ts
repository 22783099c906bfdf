/** Light, dark, or as the system says. */
export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];
const STORED = "nv.theme";

export function theme(): Theme {
  const stored = localStorage.getItem(STORED);
  return THEMES.find((known) => known === stored) ?? "system";
}

export function setTheme(next: Theme) {
  localStorage.setItem(STORED, next);
  startTheme();
}

export function startTheme() {
  const current = theme();
  if (current === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = current;
}
