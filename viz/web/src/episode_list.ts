// The list of episodes, failures first. Branches are listed below the episode that they left.

import { element, setText } from "./dom";
import type { Row } from "./format";
import { TaskGrid } from "./task_grid";
import { compareNames, nameTasks, type TaskName } from "./task_names";
import { failedAt, happened, inWords, outcomeInWords, outcomeRank, stepText } from "./outcomes";

/** The search is shown for at least this many episodes. */
const LEAST_SEARCHED = 12;

/** Sort orders. Ties are broken by task and episode. */
const ORDERS: Record<string, { text: string; compare: (a: Row, b: Row) => number }> = {
  outcome: { text: "by outcome", compare: (a, b) => outcomeRank(a.outcome) - outcomeRank(b.outcome) },
  task: { text: "by task and episode", compare: () => 0 },
  step: { text: "by step", compare: (a, b) => (failedAt(a) ?? a.n_steps) - (failedAt(b) ?? b.n_steps) },
};

export class EpisodeList {
  readonly root = element("nav", "episodes");
  readonly buttons = element("div", "buttons");
  private readonly chips = element("div", "chips");
  private readonly finders = element("div", "finders");
  private readonly search = element("input");
  private readonly taskChoice = element("select");
  private readonly order = element("select");
  private readonly items = element("div", "items");
  private readonly progress = element("span", "progress");
  private readonly shapes = element("div", "shapes");
  private readonly grid: TaskGrid;
  /** The rows in the order shown. */
  private shownRows: Row[] = [];
  private isGridLoaded = false;
  private rows: Row[] = [];
  private taskEnvs: Record<string, string> = {};
  private names = new Map<string, TaskName>();
  private current: string | null = null;
  /** An outcome, or "all". */
  filter = "all";
  /** A cell per episode, sorted by task, or a line per episode. */
  shape: "grid" | "list" = "list";

  /** @param hrefOf returns the address of an episode from its key. */
  constructor(
    private readonly onSelect: (key: string) => void,
    private readonly onFilter: () => void,
    hrefOf: (key: string) => string,
  ) {
    this.grid = new TaskGrid(hrefOf);
    this.root.append(
      element("header", "", element("h2", "", "Episodes ", this.progress), this.buttons),
      element("div", "browse", this.finders, this.shapes, this.chips, this.grid.root, this.items),
    );
    for (const shape of ["grid", "list"] as const) {
      const button = element("button", "", shape);
      button.dataset.shape = shape;
      button.title = shape === "grid" ? "a cell for each episode, by task" : "a line for each episode";
      button.onclick = () => {
        this.shape = shape;
        this.drawItems();
      };
      this.shapes.append(button);
    }
    this.search.type = "search";
    this.search.placeholder = "search (/)";
    this.search.title = "words of the task, its number, an outcome, an event";
    this.order.replaceChildren(
      ...Object.entries(ORDERS).map(([name, { text }]) => Object.assign(element("option", "", text), { value: name })),
    );
    this.taskChoice.ariaLabel = "task";
    this.order.ariaLabel = "order";
    this.finders.append(this.search, this.taskChoice, this.order);
    this.search.oninput = this.taskChoice.onchange = this.order.onchange = () => {
      this.drawItems();
      this.onFilter();
    };
    for (const choice of [this.taskChoice, this.order]) choice.addEventListener("change", () => choice.blur());
    this.search.onkeydown = ({ key }) => {
      if (key === "Escape" || key === "Enter") this.search.blur();
    };
  }

  /** Keys in the order shown. */
  get keys(): string[] {
    return this.shownRows.map(({ key }) => key);
  }

  /** Shows another run and clears the filters. Several tasks are shown as a grid. */
  open(rows: Row[], taskEnvs: Record<string, string> = {}): void {
    this.search.value = this.taskChoice.value = "";
    this.order.value = "outcome";
    this.filter = "all";
    this.current = null;
    this.load(rows, taskEnvs);
    this.shape = this.names.size > 1 ? "grid" : "list";
    this.drawAll();
  }

  /** @param nMissing number of requested episodes that have not ended yet. */
  setProgress(nRows: number, nMissing: number): void {
    setText(this.progress, nMissing ? `${nRows} of ${nRows + nMissing}` : "");
    this.progress.title = "The run is in progress or was stopped. Episodes appear here as they end.";
  }

  /** @param taskEnvs task → the environment name with which it is evaluated. */
  load(rows: Row[], taskEnvs: Record<string, string> = this.taskEnvs): void {
    this.rows = rows;
    this.taskEnvs = taskEnvs;
    const tasks = [...new Set(rows.map(({ task }) => task))];
    this.names = nameTasks(tasks, taskEnvs);
    this.finders.hidden = this.shapes.hidden = rows.length < LEAST_SEARCHED && tasks.length < 2;
    this.offerTasks(tasks);
    this.isGridLoaded = false;
    this.drawAll();
  }

  focusSearch(): void {
    this.search.focus();
    this.search.select();
  }

  private offerTasks(tasks: string[]): void {
    const chosen = this.taskChoice.value;
    this.taskChoice.hidden = tasks.length < 2;
    const offered = tasks
      .map((task) => ({ task, ...this.names.get(task)! }))
      .sort((a, b) => compareNames(a.short, b.short))
      .map(({ task, short, words }) => Object.assign(element("option", "", `${short} ${words}`), { value: task }));
    this.taskChoice.replaceChildren(Object.assign(element("option", "", "all tasks"), { value: "" }), ...offered);
    this.taskChoice.value = tasks.includes(chosen) ? chosen : "";
  }

  /** Returns the text of a row that the search matches against. */
  private textOf(row: Row): string {
    const { short, words } = this.names.get(row.task)!;
    const parts = [`task ${short}`, words, row.key, outcomeInWords(row.outcome), happened(row)];
    return parts.join(" ").toLowerCase();
  }

  select(key: string): void {
    this.current = key;
    this.grid.select(key);
    this.items.querySelector(".current")?.classList.remove("current");
    const item = this.items.querySelector(`[data-key="${CSS.escape(key)}"]`);
    item?.classList.add("current");
    item?.scrollIntoView({ block: "nearest" });
  }

  /** Whether the grid is shown. A few episodes of one task are always a list. */
  private get isGrid(): boolean {
    return this.shape === "grid" && !this.shapes.hidden;
  }

  private shown(): Row[] {
    const keys = new Set(this.rows.map(({ key }) => key));
    // A branch whose episode is not in the list gets an entry of its own.
    const branches = Map.groupBy(this.rows, ({ branch }) => (branch && keys.has(branch.of) ? branch.of : ""));
    const withBranches = (row: Row): Row[] => [row, ...(branches.get(row.key) ?? []).flatMap(withBranches)];
    const wanted = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const byTask = (a: Row, b: Row) =>
      compareNames(this.names.get(a.task)!.short, this.names.get(b.task)!.short) || a.episode_index - b.episode_index;
    const { compare } = this.isGrid ? ORDERS.task : (ORDERS[this.order.value] ?? ORDERS.outcome);
    return (branches.get("") ?? [])
      .filter(({ outcome }) => this.filter === "all" || outcome === this.filter)
      .filter(({ task }) => !this.taskChoice.value || task === this.taskChoice.value)
      .filter((row) => {
        if (!wanted.length) return true;
        const text = this.textOf(row);
        return wanted.every((word) => text.includes(word));
      })
      .sort((a, b) => compare(a, b) || byTask(a, b))
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
        const chip = element("button", "chip", outcomeInWords(outcome), element("i", "", String(n)));
        // The chips also explain the colours of the grid.
        if (outcome !== "all") chip.prepend(element("i", "outcome"));
        chip.dataset.filter = chip.dataset.outcome = outcome;
        chip.ariaPressed = String(outcome === this.filter);
        chip.title = outcome === "all" ? "show all episodes" : `show only: ${outcomeInWords(outcome)}`;
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
    this.shownRows = this.shown();
    const { isGrid } = this;
    this.grid.root.hidden = !isGrid;
    this.items.hidden = this.order.hidden = isGrid;
    for (const button of this.shapes.querySelectorAll("button"))
      button.ariaPressed = String(button.dataset.shape === this.shape);
    if (!isGrid) {
      this.drawLines();
      return;
    }
    if (!this.isGridLoaded) this.grid.load(this.rows, this.names);
    this.isGridLoaded = true;
    this.grid.highlight(new Set(this.keys));
  }

  private drawLines(): void {
    const hasGroups = (ORDERS[this.order.value] ?? ORDERS.outcome) === ORDERS.outcome;
    let group = "";
    this.items.replaceChildren(
      ...this.shownRows.flatMap((row) => {
        const item = this.drawItem(row);
        if (!hasGroups || row.branch || row.outcome === group) return [item];
        group = row.outcome;
        const title = element("h3", "", inWords(group));
        title.dataset.outcome = group;
        return [title, item];
      }),
    );
  }

  private drawItem(row: Row): HTMLElement {
    const { short, words } = this.names.get(row.task)!;
    const hasTasks = this.names.size > 1;
    const number = `${hasTasks ? `${short} ` : ""}#${row.episode_index}`;
    const name = row.branch ? `↳ ${row.key.slice(row.key.lastIndexOf("~"))}` : number;
    const item = element(
      "button",
      "item",
      element("span", "name", name),
      element("span", "detail", row.branch ? branchEnd(row) : happened(row)),
      element("span", "step", stepText(row)),
    );
    if (row.branch) item.append(element("span", "words", row.branch.changes));
    else if (hasTasks) item.append(element("span", "words", words));
    item.classList.toggle("branch", Boolean(row.branch));
    item.classList.toggle("current", row.key === this.current);
    item.dataset.key = row.key;
    item.dataset.outcome = row.outcome;
    item.title = describe(row);
    item.onclick = () => this.onSelect(row.key);
    return item;
  }
}

/** Returns how a branch ended, since it is listed below its episode and not under its outcome. */
function branchEnd(row: Row): string {
  return row.outcome === "success" || row.outcome === "running" ? outcomeInWords(row.outcome) : happened(row);
}

function describe(row: Row): string {
  const { key, outcome, failed_stage, n_steps } = row;
  const stage = failed_stage ? `, stage not met: ${inWords(failed_stage)}` : "";
  const what = [happened(row), stepText(row)].filter(Boolean).join(" at ");
  return `${key}: ${outcomeInWords(outcome)}${stage}${what ? `, ${what}` : ""}; ${n_steps} steps`;
}
