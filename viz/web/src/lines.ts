// The lines of one moment, as `viz/overlay.py` draws them into videos: the same colours, widths and order.

import type { Episode } from "./episode";

export type Colour = readonly [number, number, number];

/** sRGB 0..255, the same in both themes. */
export const COLOURS = {
  plan: [20, 160, 70],
  ghost: [40, 90, 230],
  taken: [245, 130, 20],
  alternative: [115, 115, 115],
  other: [215, 30, 165],
} as const satisfies Record<string, Colour>;

export const N_GHOSTS = 12;

export interface Line {
  kind: "alternative" | "draft" | "ghost" | "other" | "taken" | "plan";
  /** x, y, z of every point, m, world. A nan ends the line. */
  points: Float32Array;
  colour: Colour;
  width: number;
  opacity: number;
  hasHalo: boolean;
  hasDots: boolean;
}

export interface Layers {
  ghosts: boolean;
  alternatives: boolean;
  drafts: boolean;
}

/** Another future of the shown episode, from where the two parted. */
export interface OtherFuture {
  episode: Episode;
  fromStep: number;
}

/**
 * Everything to be drawn at a step, the lowest first.
 *
 * @param fromDecision draw the plan from where it was made, as the image it was made from; else from the step on.
 */
export function linesAt(
  episode: Episode,
  step: number,
  layers: Layers,
  others: readonly OtherFuture[],
  fromDecision = false,
): Line[] {
  const lines: Line[] = [];
  const add = (
    kind: Line["kind"],
    points: Float32Array,
    colour: Colour,
    width: number,
    opacity: number,
    { hasHalo = false, hasDots = false } = {},
  ) => lines.push({ kind, points, colour, width, opacity, hasHalo, hasDots });

  const index = episode.decisionAt(step);
  const decision = index < 0 ? null : episode.decisions[index];
  if (decision && layers.alternatives)
    for (const path of decision.paths.slice(1)) add("alternative", path, COLOURS.alternative, 1.5, 0.8);
  if (decision && layers.drafts)
    decision.drafts.forEach((path, i) =>
      add("draft", path, mix(COLOURS.alternative, COLOURS.plan, (i + 1) / decision.drafts.length), 1.5, 0.8),
    );
  if (layers.ghosts)
    for (let age = Math.min(N_GHOSTS, index); age >= 1; age--)
      add("ghost", episode.decisions[index - age].paths[0], COLOURS.ghost, 2, 0.85 * (1 - age / (N_GHOSTS + 1)) ** 2);
  for (const { episode: other, fromStep } of others)
    add("other", other.ee.values.subarray(3 * fromStep), COLOURS.other, 2.5, 1);
  add("taken", episode.ee.values.subarray(0, 3 * (step + 1)), COLOURS.taken, 3, 1, { hasHalo: true });
  if (decision) {
    const path = decision.paths[0];
    const begin = fromDecision ? 0 : step - decision.step;
    const bend = Math.max(begin, episode.nExecuted(index));
    add("plan", path.subarray(3 * bend), COLOURS.plan, 1.8, 0.75, { hasDots: true });
    add("plan", path.subarray(3 * begin, 3 * (bend + 1)), COLOURS.plan, 3.5, 1, { hasHalo: true, hasDots: true });
  }
  return lines;
}

function mix(start: Colour, end: Colour, share: number): Colour {
  const between = (i: 0 | 1 | 2) => Math.round(start[i] + share * (end[i] - start[i]));
  return [between(0), between(1), between(2)];
}
