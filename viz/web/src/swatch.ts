// The colours of the lines, for the style sheet and for legends.

import { element } from "./dom";
import { COLOURS } from "./lines";

export type ColourName = keyof typeof COLOURS;

/** As `--plan`, `--ghost` and so on. */
export function giveColoursToStyles(): void {
  for (const [name, colour] of Object.entries(COLOURS))
    document.documentElement.style.setProperty(`--${name}`, `rgb(${colour.join(" ")})`);
}

export function makeSwatch(name: ColourName): HTMLElement {
  const swatch = element("i", "swatch");
  swatch.style.background = `var(--${name})`;
  return swatch;
}
