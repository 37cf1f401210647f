// Outcomes in the order of the list: what failed is looked at first.

const ORDER = ["running", "never_picked_up", "dropped_during_transport", "missed_goal", "timeout", "error", "success"];

export function outcomeRank(outcome: string): number {
  const rank = ORDER.indexOf(outcome);
  return rank < 0 ? ORDER.length - 1.5 : rank;
}

export function inWords(name: string): string {
  return name.replaceAll("_", " ");
}
