// The channels that have a graph: the object's height and distance from its goal, each action dimension, the rest of the
// state, and every series.

import type { Episode, Series } from "./episode";
import type { GrowingTable } from "./growing_table";

/** A column of what was measured, one value a moment. */
export interface Measured {
  table: GrowingTable;
  column: number;
  /** From the table's unit to the channel's. */
  scale: number;
}

export interface Channel {
  name: string;
  /** In words, where the environment's own name of the unit contains numbers. */
  unit: string;
  /** Index of the action dimension that commands it. */
  action: number | null;
  /** Null, or of an episode without it. */
  measured: ((episode: Episode) => Measured | null) | null;
  /** What a row of what is measured stands for; absent: a moment. */
  axis?: Series["axis"];
  /** Said of it, besides its name. */
  meaning?: string;
}

/** An action dimension and the state column of the same name and unit are one channel. */
export function channelsOf(episode: Episode): Channel[] {
  const {
    header: { action, state },
    series,
  } = episode;
  const matching = action.names.map((name, i) =>
    state.names.findIndex((other, k) => other === name && state.units[k] === action.units[i]),
  );
  const ofState = (column: number) => (episode: Episode) => ({ table: episode.state, column, scale: 1 });
  const ofMoments = [...series.values()].filter(({ axis }) => axis === "moment");
  const others = [...series.values()].filter(({ axis }) => axis !== "moment");
  const ofGoal = [
    ofObject("object height", ({ objectHeight }) => objectHeight),
    ofObject("goal distance", ({ goalDistance }) => goalDistance),
  ];
  return [
    // Only goals of pick and place have them. The measures of other goals are series.
    ...ofGoal.filter(({ measured }) => measured!(episode)!.table.hasNumbers),
    ...ofMoments.map(ofSeries),
    ...action.names.map((name, i) => ({
      name,
      unit: unitInWords(action.units[i]),
      action: i,
      measured: matching[i] < 0 ? null : ofState(matching[i]),
    })),
    ...state.names
      .map((name, k) => ({ name, unit: unitInWords(state.units[k]), action: null, measured: ofState(k) }))
      .filter((_, k) => !matching.includes(k)),
    ...others.map(ofSeries),
  ];
}

/** The value that was commanded at a step; nan if there was none. */
export function commandedAt(channel: Channel, episode: Episode, step: number): number {
  const { action } = channel;
  return action !== null && step < episode.action.length ? episode.action.at(step, action) : NaN;
}

export function measuredAt(channel: Channel, episode: Episode, step: number): number {
  const measured = channel.measured?.(episode);
  const row = channel.axis === "prediction" ? episode.decisionAt(step) : step;
  if (!measured || row < 0 || row >= measured.table.length || step >= episode.nMoments) return NaN;
  return measured.scale * measured.table.at(row, measured.column);
}

/** The value that the plan in force at `now` predicts for a step; nan if it does not reach there. */
export function predictedAt(channel: Channel, episode: Episode, now: number, step: number): number {
  const decision = episode.decisions[episode.decisionAt(now)];
  if (!decision || channel.action === null) return NaN;
  const place = step - decision.step;
  return place < 0 ? NaN : (decision.chunk[place * episode.action.width + channel.action] ?? NaN);
}

function ofObject(name: string, table: (episode: Episode) => GrowingTable): Channel {
  return {
    name,
    unit: "cm",
    action: null,
    measured: (episode) => ({ table: table(episode), column: 0, scale: 100 }),
  };
}

function ofSeries({ name, title, unit, axis, meaning }: Series): Channel {
  const measured = (episode: Episode) => {
    const series = episode.series.get(name);
    return series ? { table: series.table, column: 0, scale: 1 } : null;
  };
  return { name: title, unit, action: null, measured, axis, meaning };
}

/** Units that contain numbers would be read as values. */
function unitInWords(unit: string): string {
  if (unit === "range_0_100") return "percent of range";
  if (unit === "range_m100_100") return "percent of half range";
  if (unit === "-1 open, 1 closed") return "negative opens";
  return /^\d/.test(unit) ? `in units of ${unit}` : unit;
}
