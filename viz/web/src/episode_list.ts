// All episodes, those that failed first; branches under the episode that they left.

import { element } from "./dom";
import type { Row } from "./format";
import { inWords, outcomeRank } from "./outcomes";

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
    this.root.append(element("header", "", element("h2", "", "Episodes"), this.buttons), this.chips, this.items);
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
    const detail = row.branch ? "" : row.error ? "crashed" : row.failed_stage ? `not ${inWords(row.failed_stage)}` : "";
    const item = element(
      "button",
      "item",
      element("span", "name", name),
      element("span", "detail", detail),
      element("span", "steps", String(row.n_steps)),
    );
    item.classList.toggle("branch", row.branch !== undefined);
    item.classList.toggle("current", row.key === this.current);
    item.dataset.key = row.key;
    item.dataset.outcome = row.outcome;
    item.title = `${row.key}: ${inWords(row.outcome)}, ${row.n_steps} steps`;
    item.onclick = () => this.onSelect(row.key);
    return item;
  }
}
