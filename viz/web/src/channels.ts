// The channels with a graph: the object's height and goal distance, each action dimension, the rest of the state, and
// every series.

import type { Episode, Series } from "./episode";
import type { GrowingTable } from "./growing_table";

/** A column of measured values. */
export interface Measured {
  table: GrowingTable;
  column: number;
  /** Factor from the table's unit to the channel's. */
  scale: number;
}

export interface Channel {
  name: string;
  /** The unit, in words if the environment's own name of it contains numbers. */
  unit: string;
  /** Index of the action dimension that commands it. */
  action: number | null;
  /** Returns the measured values of an episode, or null if it has none. */
  measured: ((episode: Episode) => Measured | null) | null;
  /** Meaning of a row of the measured values; absent: a moment. */
  axis?: Series["axis"];
  /** Explanation beside its name. */
  meaning?: string;
}

/** Returns the channels. An action dimension and a state column with the same name and unit form one channel. */
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

/** Returns the value commanded at a step, or nan if there is none. */
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

/** Returns the value that the plan at step `now` predicts for a step, or nan beyond its horizon. */
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

/** Returns a unit in words if it contains numbers, which would be mistaken for values. */
function unitInWords(unit: string): string {
  if (unit === "range_0_100") return "percent of range";
  if (unit === "range_m100_100") return "percent of half range";
  if (unit === "-1 open, 1 closed") return "negative opens";
  return /^\d/.test(unit) ? `in units of ${unit}` : unit;
}
