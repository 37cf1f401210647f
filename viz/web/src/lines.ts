// The lines of one moment, the same as those that `viz/overlay.py` draws into videos.

import type { Episode } from "./episode";
import {
  colourAt,
  KINDS,
  LEAST_TRAIL_S,
  N_GHOSTS,
  opacityAt,
  styleOf,
  type Colour,
  type Kind,
  type LayerName,
  type LineStyle,
} from "./overlay_style";

export interface Line {
  style: LineStyle;
  /** Coordinates x, y, z of every point in the world, m. A nan ends the line. */
  points: Float32Array;
  colour: Colour;
  opacity: number;
}

/** Switches of the lines. Lines of other futures are always drawn. */
export type Layers = Record<Exclude<LayerName, "others">, boolean>;

/** The choice of lines that are drawn. */
export interface Choice extends Layers {
  /** Number of plans since which the path taken is drawn; 0: the whole path. */
  trail: number;
}

/** Another future of the shown episode, from the step at which the two diverge. */
export interface OtherFuture {
  episode: Episode;
  fromStep: number;
  /** The name of the run that recorded it; null for a branch of the shown run, or the episode that a branch left. */
  name: string | null;
}

/**
 * Returns all lines of a step, from the lowest to the highest.
 *
 * @param fromDecision draw the plan from its decision on, for the image of that decision; otherwise from the step on.
 */
export function linesAt(
  episode: Episode,
  step: number,
  layers: Choice,
  others: readonly OtherFuture[],
  fromDecision = false,
): Line[] {
  const lines = new Map<Kind, Line[]>(KINDS.map((kind) => [kind, []]));
  /** @param share position in the sequence of plans, from the first (0) to the current one (1). */
  const add = (kind: Kind, points: Float32Array, share = 1) => {
    const style = styleOf(kind);
    if (style.layer !== "others" && !layers[style.layer]) return;
    lines.get(kind)!.push({ style, points, colour: colourAt(style, share), opacity: opacityAt(style, share) });
  };

  const index = episode.decisionAt(step);
  const decision = index < 0 ? null : episode.decisions[index];
  for (const path of decision?.paths.slice(1) ?? []) add("alternative", path);
  // The plan itself has a share of 1.
  decision?.intermediate_plans.forEach((path, i) => add("intermediate_plan", path, i / decision.intermediate_plans.length));
  for (let age = Math.min(N_GHOSTS, index); age >= 1; age--)
    for (const path of episode.decisions[index - age].paths.slice(0, 1)) add("ghost", path, 1 - age / (N_GHOSTS + 1));
  for (const { episode: other, fromStep } of others) add("other", other.ee.values.subarray(3 * fromStep));
  const way = episode.ee.values;
  add("taken", way.subarray(3 * trailBegin(episode, step, layers.trail), 3 * (step + 1)));
  const path = decision?.paths[0];
  if (decision && path) {
    const begin = fromDecision ? 0 : step - decision.step;
    const bend = Math.max(begin, episode.nExecuted(index));
    add("rest", path.subarray(3 * bend));
    add("plan", path.subarray(3 * begin, 3 * (bend + 1)));
  }
  const tool = way.subarray(3 * step, 3 * (step + 1));
  add("tool", new Float32Array([...tool, ...tool]));
  return [...lines.values()].flat();
}

/** Returns the step from which the path taken is drawn. */
export function trailBegin(episode: Episode, step: number, nPlans: number): number {
  if (nPlans === 0) return 0;
  const { decisions, header } = episode;
  const begin = decisions[episode.decisionAt(step) - (nPlans - 1)]?.step ?? 0;
  return Math.max(0, Math.min(begin, step - Math.ceil(LEAST_TRAIL_S / header.control_dt_s)));
}
