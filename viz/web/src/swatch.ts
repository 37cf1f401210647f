// Makes the colours of the lines available to the style sheet and to legends.

import { element } from "./dom";
import { HALOS, KINDS, layerOf, styleOf, type LayerName } from "./overlay_style";

/** Defines `--plan`, `--ghost` and so on. */
export function giveColoursToStyles(): void {
  for (const kind of KINDS)
    document.documentElement.style.setProperty(`--${kind}`, `rgb(${styleOf(kind).colour.join(" ")})`);
}

/** Sets the colour of a layer as `--swatch` of an element, and the rim of its lines as `--rim`. */
export function giveSwatch(to: HTMLElement, layer: LayerName): void {
  const { colour, turns_to: end, halo } = styleOf(layerOf(layer).swatch);
  const [from, into] = [colour, end ?? colour].map((ends) => `rgb(${ends.join(" ")})`);
  to.style.setProperty("--swatch", `linear-gradient(90deg, ${from}, ${into})`);
  to.style.setProperty("--rim", `rgb(${HALOS[halo ?? "light"].join(" ")})`);
}

export function makeSwatch(layer: LayerName): HTMLElement {
  const swatch = element("i", "swatch");
  giveSwatch(swatch, layer);
  return swatch;
}
