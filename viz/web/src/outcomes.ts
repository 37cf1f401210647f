// Outcomes in words and in the order of the list: what failed is looked at first.

import type { Row } from "./format";

/** The outcomes that this version knows, in the order of its table. Python writes them into the page. */
const KNOWN = (document.getElementById("app")?.dataset.outcomes ?? "success error").split(" ");

export function outcomeRank(outcome: string): number {
  if (outcome === "running") return -1;
  // What is unknown comes after all other failures, what succeeded last.
  if (outcome === "success") return KNOWN.length + 1;
  const rank = KNOWN.indexOf(outcome);
  return rank < 0 ? KNOWN.length : rank;
}

/** The step of an episode to look at first: where it failed; null for one that did not, and while it runs. */
export function failedAt({ outcome, success, decisive_step, decided_at_step }: Row): number | null {
  return success || outcome === "running" ? null : (decisive_step ?? decided_at_step);
}

/** An outcome in words; one of a newer version is said to be unknown. */
export function outcomeInWords(outcome: string): string {
  const isKnown = outcome === "all" || outcome === "running" || KNOWN.includes(outcome);
  return isKnown ? inWords(outcome) : `${inWords(outcome)} (unknown)`;
}

export function inWords(name: string): string {
  return name.replaceAll("_", " ");
}
