// The table of the lines of a plan. Films and MuJoCo's window read the same table: see overlay_style.py.

import table from "../../overlay.json";

/** An sRGB colour, 0..255, the same in both themes. */
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

/** All kinds of lines, from the lowest to the highest. */
export const KINDS = table.lines.map(({ kind }) => kind as Kind);
export const LAYERS = table.layers as readonly Layer[];
export const HALOS = table.halos as unknown as Record<"light" | "dark", Colour>;
export const HALO_WIDER_PX = table.halo_wider_px;
export const HALO_OPACITY = table.halo_opacity;
export const DOT_WIDER_PX = table.dot_wider_px;
export const N_GHOSTS = table.n_ghosts;
/** Choices of the trail: the number of plans since which the path taken is drawn; 0: the whole path. */
export const TRAILS: readonly number[] = table.trails;
export const LEAST_TRAIL_S = table.least_trail_s;

const STYLES = new Map(table.lines.map((line) => [line.kind, line as unknown as LineStyle]));

export function styleOf(kind: Kind): LineStyle {
  return STYLES.get(kind)!;
}

export function layerOf(name: LayerName): Layer {
  return LAYERS.find(({ layer }) => layer === name)!;
}

/** Returns the colour of a line at a share from 0 to 1 of the way to the current plan's colour. */
export function colourAt({ colour, turns_to: end }: LineStyle, share: number): Colour {
  if (!end) return colour;
  const between = (i: 0 | 1 | 2) => Math.round(colour[i] + share * (end[i] - colour[i]));
  return [between(0), between(1), between(2)];
}

export function opacityAt({ opacity, fades }: LineStyle, share: number): number {
  return fades ? opacity * share ** 2 : opacity;
}

/** Returns the factor on line widths for an image of this width in css px. */
export function imageScale(width: number): number {
  return Math.sqrt(width / table.image_width_px);
}

/** Whether a line is drawn into an image. In a small image some lines would hide the robot. */
export function isInImage({ images }: LineStyle, width: number): boolean {
  return images === "all" || width >= table.image_width_px;
}
