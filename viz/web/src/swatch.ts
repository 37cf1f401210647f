// The colours of the lines, for the style sheet and for legends.

import { element } from "./dom";
import { COLOURS, DARK_HALO, LIGHT_HALO } from "./lines";

export type ColourName = keyof typeof COLOURS;

/** As `--plan`, `--ghost` and so on. */
export function giveColoursToStyles(): void {
  for (const [name, colour] of Object.entries(COLOURS))
    document.documentElement.style.setProperty(`--${name}`, `rgb(${colour.join(" ")})`);
  for (const [name, colour] of Object.entries({ "light-halo": LIGHT_HALO, "dark-halo": DARK_HALO }))
    document.documentElement.style.setProperty(`--${name}`, `rgb(${colour.join(" ")})`);
}

export function makeSwatch(name: ColourName): HTMLElement {
  const swatch = element("i", `swatch ${name}`);
  swatch.style.background = `var(--${name})`;
  return swatch;
}
