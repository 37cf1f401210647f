// The lines of one moment, as `viz/overlay.py` draws them into videos: the same colours, widths and order.

import type { Episode } from "./episode";

export type Colour = readonly [number, number, number];

/** sRGB 0..255, the same in both themes. */
export const COLOURS = {
  plan: [0, 100, 52],
  ghost: [40, 90, 230],
  taken: [255, 145, 30],
  alternative: [75, 75, 75],
  other: [215, 30, 165],
} as const satisfies Record<string, Colour>;

/**
 * The rims of lines. Whoever cannot tell green from orange, or orange from a yellow arm, still sees that the plan is a
 * dark line with a light rim and the way taken a light line with a dark rim.
 */
export const LIGHT_HALO: Colour = [255, 255, 255];
export const DARK_HALO: Colour = [40, 20, 0];

export const N_GHOSTS = 12;

/** Choices of the trail: the number of plans, the one in force included, since which the way taken is drawn. */
export const TRAILS = [2, 5, Infinity] as const;
/** The trail is at least this long, s. Otherwise a policy that plans at every step would leave none. */
const LEAST_TRAIL_S = 0.5;

export interface Line {
  kind: "alternative" | "draft" | "ghost" | "other" | "taken" | "plan";
  /** x, y, z of every point, m, world. A nan ends the line. */
  points: Float32Array;
  colour: Colour;
  width: number;
  opacity: number;
  halo: Colour | null;
  hasDots: boolean;
}

export interface Layers {
  plan: boolean;
  taken: boolean;
  ghosts: boolean;
  alternatives: boolean;
  drafts: boolean;
}

/** Says which lines are drawn. */
export interface Choice extends Layers {
  /** Plans back to which the way taken is drawn. */
  trail: number;
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
  layers: Choice,
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
    { halo = null as Colour | null, hasDots = false } = {},
  ) => lines.push({ kind, points, colour, width, opacity, halo, hasDots });

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
      for (const path of episode.decisions[index - age].paths.slice(0, 1))
        add("ghost", path, COLOURS.ghost, 2, 0.85 * (1 - age / (N_GHOSTS + 1)) ** 2);
  for (const { episode: other, fromStep } of others)
    add("other", other.ee.values.subarray(3 * fromStep), COLOURS.other, 2.5, 1, { halo: LIGHT_HALO });
  if (layers.taken) {
    const way = episode.ee.values.subarray(3 * trailBegin(episode, step, layers.trail), 3 * (step + 1));
    add("taken", way, COLOURS.taken, 3, 1, { halo: DARK_HALO });
  }
  const path = decision?.paths[0];
  if (decision && path && layers.plan) {
    const begin = fromDecision ? 0 : step - decision.step;
    const bend = Math.max(begin, episode.nExecuted(index));
    add("plan", path.subarray(3 * bend), COLOURS.plan, 1.8, 0.75, { halo: LIGHT_HALO, hasDots: true });
    add("plan", path.subarray(3 * begin, 3 * (bend + 1)), COLOURS.plan, 3.5, 1, { halo: LIGHT_HALO, hasDots: true });
  }
  return lines;
}

/** The step from which on the way taken is drawn. */
export function trailBegin(episode: Episode, step: number, nPlans: number): number {
  if (nPlans === Infinity) return 0;
  const { decisions, header } = episode;
  const begin = decisions[episode.decisionAt(step) - (nPlans - 1)]?.step ?? 0;
  return Math.max(0, Math.min(begin, step - Math.ceil(LEAST_TRAIL_S / header.control_dt_s)));
}

function mix(start: Colour, end: Colour, share: number): Colour {
  const between = (i: 0 | 1 | 2) => Math.round(start[i] + share * (end[i] - start[i]));
  return [between(0), between(1), between(2)];
}
