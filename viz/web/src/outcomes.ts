// Outcomes in the order of the list: what failed is looked at first.

import type { Row } from "./format";

const ORDER = ["running", "never_picked_up", "dropped_during_transport", "missed_goal", "timeout", "error", "success"];

export function outcomeRank(outcome: string): number {
  const rank = ORDER.indexOf(outcome);
  return rank < 0 ? ORDER.length - 1.5 : rank;
}

/** The step of an episode to look at first: where it failed; null for one that did not, and while it runs. */
export function failedAt({ outcome, success, decisive_step, decided_at_step }: Row): number | null {
  return success || outcome === "running" ? null : (decisive_step ?? decided_at_step);
}

export function inWords(name: string): string {
  return name.replaceAll("_", " ");
}
