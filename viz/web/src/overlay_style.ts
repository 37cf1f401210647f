// The table of the lines that are drawn of a plan. Films and MuJoCo's window read the same one: see overlay_style.py.

import table from "../../overlay.json";

/** sRGB 0..255, the same in both themes. */
export type Colour = readonly [number, number, number];
export type Kind = "alternative" | "intermediate_plan" | "ghost" | "other" | "taken" | "rest" | "plan" | "tool";
export type LayerName = "plan" | "taken" | "ghosts" | "alternatives" | "intermediate_plans" | "others";

/** The fields are explained in overlay_style.py. */
export interface LineStyle {
  kind: Kind;
  layer: LayerName;
  colour: Colour;
  turns_to: Colour | null;
  width_px: number;
  opacity: number;
  fades: boolean;
  halo: "light" | "dark" | null;
  has_dots: boolean;
  images: "all" | "large";
  scenes: boolean;
}

export interface Layer {
  layer: LayerName;
  swatch: Kind;
  label: string;
  key: string | null;
  hint: string | null;
  meaning: string;
}

/** The lowest first. */
export const KINDS = table.lines.map(({ kind }) => kind as Kind);
export const LAYERS = table.layers as readonly Layer[];
export const HALOS = table.halos as unknown as Record<"light" | "dark", Colour>;
export const HALO_WIDER_PX = table.halo_wider_px;
export const HALO_OPACITY = table.halo_opacity;
export const DOT_WIDER_PX = table.dot_wider_px;
export const N_GHOSTS = table.n_ghosts;
/** Choices of the trail: the number of plans since which the way taken is drawn; 0: all of it. */
export const TRAILS: readonly number[] = table.trails;
export const LEAST_TRAIL_S = table.least_trail_s;

const STYLES = new Map(table.lines.map((line) => [line.kind, line as unknown as LineStyle]));

export function styleOf(kind: Kind): LineStyle {
  return STYLES.get(kind)!;
}

export function layerOf(name: LayerName): Layer {
  return LAYERS.find(({ layer }) => layer === name)!;
}

/** The colour of a line that is that share of the way to the plan in force, which is at 1. */
export function colourAt({ colour, turns_to: end }: LineStyle, share: number): Colour {
  if (!end) return colour;
  const between = (i: 0 | 1 | 2) => Math.round(colour[i] + share * (end[i] - colour[i]));
  return [between(0), between(1), between(2)];
}

export function opacityAt({ opacity, fades }: LineStyle, share: number): number {
  return fades ? opacity * share ** 2 : opacity;
}

/** Of an image as wide as this, css px, how many px are one px of a line's width. */
export function imageScale(width: number): number {
  return Math.sqrt(width / table.image_width_px);
}

/** In a small image some lines would hide the robot. */
export function isInImage({ images }: LineStyle, width: number): boolean {
  return images === "all" || width >= table.image_width_px;
}
