// The light or dark theme. It follows the system until the user changes it.

export type Theme = "light" | "dark";

const systemIsDark = matchMedia("(prefers-color-scheme: dark)");

export function systemTheme(): Theme {
  return systemIsDark.matches ? "dark" : "light";
}

export function onSystemTheme(listener: (theme: Theme) => void): void {
  systemIsDark.addEventListener("change", () => listener(systemTheme()));
}

/** @returns the colour behind the 3D scene. */
export function applyTheme(theme: Theme): string {
  document.documentElement.dataset.theme = theme;
  return getComputedStyle(document.documentElement).getPropertyValue("--scene").trim();
}
