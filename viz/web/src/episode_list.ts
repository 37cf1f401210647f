// All episodes, those that failed first; branches under the episode that they left.

import { element } from "./dom";
import type { Row } from "./format";
import { failedAt, inWords, outcomeRank } from "./outcomes";

export class EpisodeList {
  readonly root = element("nav", "episodes");
  readonly buttons = element("div", "buttons");
  private readonly chips = element("div", "chips");
  private readonly items = element("div", "items");
  private rows: Row[] = [];
  private current: string | null = null;
  /** An outcome, or "all". */
  filter = "all";

  constructor(
    private readonly onSelect: (key: string) => void,
    private readonly onFilter: () => void,
  ) {
    this.root.append(
      element("header", "", element("h2", "", "Episodes"), this.buttons),
      element("div", "browse", this.chips, this.items),
    );
  }

  /** Keys in the order shown. */
  get keys(): string[] {
    return this.shown().map(({ key }) => key);
  }

  load(rows: Row[]): void {
    this.rows = rows;
    this.drawAll();
  }

  select(key: string): void {
    this.current = key;
    this.drawItems();
    this.items.querySelector(".current")?.scrollIntoView({ block: "nearest" });
  }

  private shown(): Row[] {
    const branches = Map.groupBy(this.rows, (row) => row.branch?.of ?? "");
    const withBranches = (row: Row): Row[] => [row, ...(branches.get(row.key) ?? []).flatMap(withBranches)];
    return (branches.get("") ?? [])
      .filter(({ outcome }) => this.filter === "all" || outcome === this.filter)
      .sort((a, b) => outcomeRank(a.outcome) - outcomeRank(b.outcome))
      .flatMap(withBranches);
  }

  private drawAll(): void {
    const trunks = this.rows.filter(({ branch }) => !branch);
    const counts = Map.groupBy(trunks, ({ outcome }) => outcome);
    const outcomes = [...counts.keys()].sort((a, b) => outcomeRank(a) - outcomeRank(b));
    if (!counts.has(this.filter)) this.filter = "all";
    this.chips.replaceChildren(
      ...["all", ...outcomes].map((outcome) => {
        const n = outcome === "all" ? trunks.length : counts.get(outcome)!.length;
        const chip = element("button", "chip", inWords(outcome), element("i", "", String(n)));
        chip.dataset.filter = chip.dataset.outcome = outcome;
        chip.ariaPressed = String(outcome === this.filter);
        chip.title = outcome === "all" ? "show all episodes" : `show only: ${inWords(outcome)}`;
        chip.onclick = () => {
          this.filter = outcome;
          this.drawAll();
          this.onFilter();
        };
        return chip;
      }),
    );
    this.drawItems();
  }

  private drawItems(): void {
    const hasTasks = new Set(this.rows.map(({ task }) => task)).size > 1;
    let group = "";
    this.items.replaceChildren(
      ...this.shown().flatMap((row) => {
        const item = this.drawItem(row, hasTasks);
        if (row.branch || row.outcome === group) return [item];
        group = row.outcome;
        const title = element("h3", "", inWords(group));
        title.dataset.outcome = group;
        return [title, item];
      }),
    );
  }

  private drawItem(row: Row, hasTasks: boolean): HTMLElement {
    const name = row.branch ? `↳ ${row.branch.changes}` : `${hasTasks ? `${row.task} ` : ""}#${row.episode_index}`;
    const item = element(
      "button",
      "item",
      element("span", "name", name),
      element("span", "detail", happened(row)),
      element("span", "step", stepText(row)),
    );
    item.classList.toggle("branch", row.branch !== undefined);
    item.classList.toggle("current", row.key === this.current);
    item.dataset.key = row.key;
    item.dataset.outcome = row.outcome;
    item.title = describe(row);
    item.onclick = () => this.onSelect(row.key);
    return item;
  }
}

/** What went wrong, in a word or two; rows from before events were named say which stage was not met. */
function happened({ success, error, decisive_event, failed_stage }: Row): string {
  if (success) return "";
  if (error) return "crashed";
  if (decisive_event) return inWords(decisive_event);
  return failed_stage ? `not ${inWords(failed_stage)}` : "";
}

/** The step at which that was, or at which the task was done. */
function stepText(row: Row): string {
  const step = row.success ? row.decided_at_step : failedAt(row);
  return step === null ? "" : `step ${step}`;
}

function describe(row: Row): string {
  const { key, outcome, failed_stage, n_steps } = row;
  const stage = failed_stage ? `, stage not met: ${inWords(failed_stage)}` : "";
  const what = [happened(row), stepText(row)].filter(Boolean).join(" at ");
  return `${key}: ${inWords(outcome)}${stage}${what ? `, ${what}` : ""}; ${n_steps} steps`;
}
