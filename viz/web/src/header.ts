// What is shown, in words and numbers.

import { element, setText } from "./dom";
import type { Episode } from "./episode";
import type { Page, Row } from "./format";
import type { GrowingTable } from "./growing_table";
import { hashOf, type Place } from "./location";
import { inWords, outcomeInWords } from "./outcomes";

const FACTS = ["step", "time", "decision", "stage", "goal distance", "object height", "failed stage"] as const;
type Fact = (typeof FACTS)[number];

export class HeaderBar {
  readonly root = element("header", "top");
  readonly buttons = element("div", "buttons");
  private readonly run = element("span", "run");
  private readonly task = element("span", "task");
  private readonly instruction = element("span", "instruction");
  private readonly badge = element("span", "badge");
  /** Shown only if the run is one of a list. */
  private readonly toRuns = element("a", "to-runs", "‹ runs");
  /** Shown only if the run is compared with another one. */
  private readonly toComparison = element("a", "to-comparison", "‹ comparison");
  private readonly other = element("a", "other-run");
  private readonly toReport = element("a", "to-report", "report");
  private readonly values = new Map<Fact, HTMLElement>();

  constructor() {
    this.toRuns.href = "#";
    this.toRuns.title = "back to the list of runs";
    this.toComparison.title = "back to the comparison of both runs";
    this.other.title = "show this episode of the other run, and draw the first one's into it";
    this.toReport.title = "open the report of this run";
    this.toReport.target = "_blank";
    this.toReport.hidden = this.toComparison.hidden = this.other.hidden = true;
    const facts = element("dl", "facts");
    for (const name of FACTS) {
      const value = element("dd");
      value.dataset.fact = name;
      this.values.set(name, value);
      facts.append(element("div", "", element("dt", "", name), value));
    }
    this.root.append(
      element("h1", "", element("span", "", "whiskers"), this.toRuns, this.toComparison, this.toReport),
      element("div", "about", this.task, this.run),
      this.buttons,
      element("div", "told", this.badge, this.instruction, this.other),
      facts,
    );
  }

  /** @param reportUrl the address of the run's report; null if there is none. */
  loadPage(page: Page, reportUrl: string | null): void {
    this.toReport.hidden = reportUrl === null;
    this.toReport.href = reportUrl ?? "";
    const policy = page.checkpoint ? `${page.policy} (${page.checkpoint})` : page.policy;
    const rules = page.old_rules ? ` · ${page.old_rules}` : "";
    setText(this.run, `${policy} on ${page.env} · ${page.run}${rules}`);
    document.title = `whiskers: ${page.run}`;
  }

  loadRow(row: Row, instruction: string): void {
    this.badge.dataset.outcome = row.outcome;
    setText(this.badge, outcomeInWords(row.outcome));
    setText(this.task, row.branch ? `${row.key}, a branch of ${row.branch.of}: ${row.branch.changes}` : row.key);
    setText(this.instruction, instruction ? `“${instruction}”` : "");
    this.set("failed stage", row.failed_stage ? inWords(row.failed_stage) : "–");
  }

  /** @param text how the other run's episode ended, and null if the run is not compared. */
  showOther(text: string | null, place: Place): void {
    const { run, against, episode, step } = place;
    this.toComparison.hidden = this.other.hidden = text === null;
    setText(this.other, text ?? "");
    this.toComparison.href = hashOf({ run, against });
    this.other.href = hashOf({ run: against, against: run, episode, step });
  }

  draw(episode: Episode, step: number): void {
    const { header, decisions, nSteps } = episode;
    const index = episode.decisionAt(step);
    const stage = episode.stageAt(step);
    this.set("step", `${step} / ${nSteps}`);
    this.set("time", `${(step * header.control_dt_s).toFixed(2)} s`);
    this.set(
      "decision",
      index < 0 ? "none yet" : `${index + 1} of ${decisions.length}, made at step ${decisions[index].step}`,
    );
    this.set("stage", stage ? inWords(stage) : header.stages.length ? "none" : "no stages");
    this.setMeasure("goal distance", episode.goalDistance, step);
    this.setMeasure("object height", episode.objectHeight, step);
  }

  /** Goals without a measure have no such fact. */
  private setMeasure(fact: Fact, table: GrowingTable, step: number): void {
    this.values.get(fact)!.parentElement!.hidden = !table.hasNumbers;
    this.set(fact, centimetres(table.at(step, 0)));
  }

  private set(fact: Fact, text: string): void {
    setText(this.values.get(fact)!, text);
  }
}

function centimetres(metres: number): string {
  if (!Number.isFinite(metres)) return "–";
  return `${(100 * metres)
    .toFixed(1)
    .replace(/^-0\.0$/, "0.0")
    .replace("-", "−")} cm`;
}
