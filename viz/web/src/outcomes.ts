// Outcomes in words and in the order of the list, in which failures come first.

import type { Row } from "./format";

/** The outcomes that this version knows, in the order of its table. Python writes them into the page. */
const KNOWN = (document.getElementById("app")?.dataset.outcomes ?? "success error").split(" ");

export function outcomeRank(outcome: string): number {
  if (outcome === "running") return -1;
  // Unknown outcomes come after all other failures, and successes last.
  if (outcome === "success") return KNOWN.length + 1;
  const rank = KNOWN.indexOf(outcome);
  return rank < 0 ? KNOWN.length : rank;
}

/** Returns the step at which an episode failed; null for a success, and while it runs. */
export function failedAt({ outcome, success, decisive_step, decided_at_step }: Row): number | null {
  return success || outcome === "running" ? null : (decisive_step ?? decided_at_step);
}

/** Returns in a word or two what went wrong. Rows that predate events name the stage that was not met. */
export function happened({ success, error, decisive_event, failed_stage }: Row): string {
  if (success) return "";
  if (error) return "crashed";
  if (decisive_event) return inWords(decisive_event);
  return failed_stage ? `not ${inWords(failed_stage)}` : "";
}

/** Returns the step at which it went wrong, or at which the task was done. */
export function stepText(row: Row): string {
  const step = row.success ? row.decided_at_step : failedAt(row);
  return step === null ? "" : `step ${step}`;
}

/** Returns an outcome in words. Outcomes of newer versions are marked as unknown. */
export function outcomeInWords(outcome: string): string {
  const isKnown = outcome === "all" || outcome === "running" || KNOWN.includes(outcome);
  return isKnown ? inWords(outcome) : `${inWords(outcome)} (unknown)`;
}

export function inWords(name: string): string {
  return name.replaceAll("_", " ");
}
