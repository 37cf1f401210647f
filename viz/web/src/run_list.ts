// The list of runs, with their results and links to their episodes and reports.

import type { Compared } from "./comparison";
import { themeButton } from "./controls";
import { element, setText } from "./dom";
import { hashOf } from "./location";
import { outcomeInWords, outcomeRank } from "./outcomes";
import { PairBar } from "./pair_bar";

/** A run as described by `viz/run_list.py`. */
export interface ListedRun {
  name: string;
  started_utc: string | null;
  /** Type and checkpoint, shortened. */
  policy: string;
  checkpoint: string;
  env: string;
  n_tasks: number;
  n_asked: number;
  n_done: number;
  n_judged: number;
  n_success: number;
  /** Null, like the interval, until an episode has run to its end. */
  success_rate: number | null;
  success_interval: [number, number] | null;
  outcomes: Record<string, number>;
  /** Time at which the newest row was written. */
  changed_s: number | null;
  doctor: { level: "fine" | "warning" | "error" | "unknown"; n_errors: number; n_warnings: number; findings: string[] };
  old_rules: string;
  has_report: boolean;
  report_command: string;
  resume_command: string;
}

export interface Listing {
  folder: string;
  runs: ListedRun[];
  remarks: { name: string; remark: string }[];
  /** The command that makes a first run. */
  first_command: string;
}

interface Column {
  name: string;
  text: string;
  /** Comparison for the ascending order. */
  compare: (a: ListedRun, b: ListedRun) => number;
  /** Whether the first click sorts in descending order. */
  isLargestFirst?: boolean;
  draw: (run: ListedRun, list: RunList) => (Node | string)[];
}

const byText = new Intl.Collator("en", { numeric: true }).compare;
const LEVELS = ["fine", "unknown", "warning", "error"];

const COLUMNS: readonly Column[] = [
  {
    name: "policy",
    text: "policy",
    compare: (a, b) => byText(a.policy, b.policy),
    draw: (run) => {
      const link = element("a", "open", run.policy);
      link.href = hashOf({ run: run.name });
      link.title = run.checkpoint ? `checkpoint ${run.checkpoint}` : "";
      const folder = element("span", "folder", run.name);
      folder.title = run.name;
      return [link, folder];
    },
  },
  {
    name: "env",
    text: "environment",
    compare: (a, b) => byText(a.env, b.env),
    draw: (run) => [run.env, element("span", "", run.n_tasks > 1 ? `${run.n_tasks} tasks` : "")],
  },
  {
    name: "started",
    text: "started (UTC)",
    isLargestFirst: true,
    compare: (a, b) => byText(a.started_utc ?? "", b.started_utc ?? ""),
    draw: ({ started_utc }) => {
      const [date, time = ""] = (started_utc ?? "–").split("T");
      return [element("span", "date", date), element("span", "", time.slice(0, 5))];
    },
  },
  {
    name: "success",
    text: "success, 95 % interval",
    isLargestFirst: true,
    compare: (a, b) => (a.success_rate ?? -1) - (b.success_rate ?? -1),
    draw: drawSuccess,
  },
  {
    name: "outcomes",
    text: "outcomes",
    isLargestFirst: true,
    compare: (a, b) => mostFrequent(a) - mostFrequent(b),
    draw: drawOutcomes,
  },
  {
    name: "episodes",
    text: "episodes",
    isLargestFirst: true,
    compare: (a, b) => a.n_done - b.n_done,
    draw: drawEpisodes,
  },
  {
    name: "doctor",
    text: "doctor",
    isLargestFirst: true,
    compare: (a, b) => LEVELS.indexOf(a.doctor.level) - LEVELS.indexOf(b.doctor.level),
    draw: drawDoctor,
  },
  {
    name: "report",
    text: "report",
    isLargestFirst: true,
    compare: (a, b) => Number(a.has_report) - Number(b.has_report),
    draw: (run, list) => [list.drawReport(run)],
  },
];

export class RunList {
  readonly root = element("main", "runs");
  private readonly search = element("input");
  private readonly folder = element("span", "folder");
  private readonly count = element("span", "count");
  private readonly body = element("tbody");
  private readonly remarks = element("ul");
  private readonly remarksPart = element("section", "remarks", element("h2", "", "Folders that are not shown"), this.remarks);
  private readonly legend = element("div", "legend");
  private readonly empty = element("p", "empty");
  private readonly heads = new Map<Column, HTMLTableCellElement>();
  private readonly pair: PairBar;
  private listing: Listing | null = null;
  private received = "";
  private order = COLUMNS[2];
  private isDescending = true;
  /** Names of the runs for which the command that makes the report is shown. */
  private readonly explained = new Set<string>();

  constructor(
    private readonly load: () => Promise<string>,
    private readonly reportUrl: (run: string) => string,
    compare: (run: string, against: string) => Promise<Compared>,
    onTheme: () => void,
  ) {
    this.pair = new PairBar(compare, () => this.drawTicks());
    this.search.type = "search";
    this.search.placeholder = "filter (/)";
    this.search.title = "words of the policy, the environment, the folder, an outcome; “unfinished”, “warning”";
    this.search.ariaLabel = "filter";
    this.search.oninput = () => this.draw();
    this.search.onkeydown = ({ key }) => {
      if (key === "Escape" || key === "Enter") this.search.blur();
    };
    const bar = element("header", "", element("h1", "", "Runs"), this.folder, this.search, this.count, themeButton(onTheme));
    const table = element("table", "", element("thead", "", this.drawHeads()), this.body);
    this.root.append(bar, this.pair.root, this.legend, element("div", "pane", table, this.empty, this.remarksPart));
  }

  /** Names of the runs in the order shown. */
  get names(): string[] {
    return this.shown().map(({ name }) => name);
  }

  /** Reads the list again, and draws it only if it has changed. */
  async refresh(): Promise<void> {
    const received = await this.load();
    if (received === this.received) return;
    this.received = received;
    this.listing = JSON.parse(received) as Listing;
    this.pair.update(this.listing.runs.map(({ name }) => name));
    this.draw();
  }

  focusSearch(): void {
    this.search.focus();
    this.search.select();
  }

  /** Returns a link to the report, or a button that shows the command for it. */
  drawReport(run: ListedRun): Node {
    if (run.has_report) {
      const link = element("a", "", "open");
      link.href = this.reportUrl(run.name);
      link.target = "_blank";
      return link;
    }
    const button = element("button", "chip", "none yet");
    button.title = "how to make the report";
    button.ariaExpanded = String(this.explained.has(run.name));
    button.onclick = () => {
      if (!this.explained.delete(run.name)) this.explained.add(run.name);
      this.draw();
    };
    return button;
  }

  private drawHeads(): HTMLElement {
    const tick = element("th");
    tick.ariaLabel = "compare";
    tick.dataset.column = "tick";
    const row = element("tr", "", tick);
    for (const column of COLUMNS) {
      const button = element("button", "", column.text);
      button.onclick = () => {
        this.isDescending = this.order === column ? !this.isDescending : column.isLargestFirst === true;
        this.order = column;
        this.draw();
      };
      const head = element("th", "", button);
      head.dataset.column = column.name;
      head.scope = "col";
      this.heads.set(column, head);
      row.append(head);
    }
    return row;
  }

  private shown(): ListedRun[] {
    const wanted = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const sign = this.isDescending ? -1 : 1;
    return (this.listing?.runs ?? [])
      .filter((run) => {
        const text = textOf(run);
        return wanted.every((word) => text.includes(word));
      })
      .sort((a, b) => sign * this.order.compare(a, b) || byText(b.name, a.name));
  }

  private draw(): void {
    const { listing } = this;
    if (!listing) return;
    const shown = this.shown();
    const isAll = shown.length === listing.runs.length;
    setText(this.folder, listing.folder);
    setText(this.count, isAll ? `${shown.length} runs` : `${shown.length} of ${listing.runs.length} runs`);
    for (const [column, head] of this.heads) {
      const order = this.isDescending ? "descending" : "ascending";
      head.ariaSort = column === this.order ? order : "none";
    }
    // Keep the focus, because the list may change while it is used with keys.
    const focused = document.activeElement?.closest<HTMLElement>("tr[data-run]")?.dataset.run;
    const what = document.activeElement?.matches("input") ? "input" : "a.open";
    this.body.replaceChildren(...shown.flatMap((run) => this.drawRun(run)));
    if (focused) this.body.querySelector<HTMLElement>(`[data-run="${CSS.escape(focused)}"] ${what}`)?.focus();
    this.body.parentElement!.hidden = !shown.length;
    this.empty.hidden = shown.length > 0;
    if (listing.runs.length) setText(this.empty, "No run matches all of these words.");
    else this.empty.replaceChildren("There is no run here yet. This command makes one: ", element("code", "", listing.first_command));
    this.drawLegend(shown);
    this.remarksPart.hidden = !listing.remarks.length;
    this.remarks.replaceChildren(
      ...listing.remarks.map(({ name, remark }) => element("li", "", element("b", "", name), ` ${remark}`)),
    );
  }

  /** Draws the legend of the outcomes. */
  private drawLegend(shown: readonly ListedRun[]): void {
    const outcomes = new Set(shown.flatMap((run) => Object.keys(run.outcomes)));
    this.legend.replaceChildren(
      ...[...outcomes].sort((a, b) => stackRank(a) - stackRank(b)).map((outcome) => {
        const key = element("span", "", element("i"), outcomeInWords(outcome));
        key.dataset.outcome = outcome;
        return key;
      }),
    );
  }

  private drawRun(run: ListedRun): HTMLElement[] {
    const row = element("tr", "", this.drawTick(run));
    row.dataset.run = run.name;
    for (const column of COLUMNS) {
      const cell = element("td", "", ...column.draw(run, this));
      cell.dataset.column = column.name;
      row.append(cell);
    }
    // The whole row acts as the link, except for links and buttons in it.
    row.onclick = ({ target }) => {
      const isOwn = target instanceof Element && target.closest("a, button, label");
      if (!isOwn && !getSelection()?.toString()) row.querySelector<HTMLElement>("a.open")!.click();
    };
    if (!this.explained.has(run.name) || run.has_report) return [row];
    const cell = element("td", "", "This command makes the report: ", element("code", "", run.report_command));
    cell.colSpan = COLUMNS.length + 1;
    return [row, element("tr", "explained", cell)];
  }

  private drawTick({ name, policy }: ListedRun): HTMLElement {
    const tick = element("input");
    tick.type = "checkbox";
    tick.ariaLabel = `compare ${policy}, ${name}`;
    tick.onchange = () => this.pair.toggle(name);
    const label = element("label", "", tick, element("span", "", "compare"));
    this.setTick(tick, label, name);
    const cell = element("td", "", label);
    cell.dataset.column = "tick";
    return cell;
  }

  private drawTicks(): void {
    for (const label of this.body.querySelectorAll<HTMLElement>("tr[data-run] label"))
      this.setTick(label.querySelector("input")!, label, label.closest("tr")!.dataset.run!);
  }

  private setTick(tick: HTMLInputElement, label: HTMLElement, name: string): void {
    tick.checked = this.pair.isTicked(name);
    tick.disabled = this.pair.isFull && !tick.checked;
    label.title = tick.disabled ? "Two runs are ticked. Untick one of them first." : "tick two runs to compare them";
  }
}

function textOf(run: ListedRun): string {
  const parts = [run.name, run.policy, run.checkpoint, run.env, run.started_utc ?? "", run.doctor.level];
  parts.push(...Object.keys(run.outcomes).map(outcomeInWords), isFinished(run) ? "finished" : "unfinished");
  return parts.join(" ").toLowerCase();
}

function isFinished({ n_done, n_asked }: ListedRun): boolean {
  return n_done >= n_asked;
}

/** Returns the rank of the most frequent outcome. */
function mostFrequent({ outcomes }: ListedRun): number {
  const [most] = Object.entries(outcomes).sort(([, a], [, b]) => b - a);
  return most ? outcomeRank(most[0]) : -1;
}

function drawSuccess({ success_rate, success_interval, n_success, n_judged }: ListedRun): Node[] {
  if (success_rate === null || success_interval === null)
    return [element("span", "", "no result yet")];
  const [low, high] = success_interval.map((share) => 100 * share);
  const bar = element("i", "rate");
  bar.dataset.outcome = "success";
  const interval = element("i", "interval");
  bar.style.width = `${100 * success_rate}%`;
  interval.style.left = `${low}%`;
  interval.style.width = `${high - low}%`;
  const text = element("span", "", element("b", "", percent(success_rate)), ` ${n_success} of ${n_judged}`);
  const track = element("div", "track", bar, interval);
  track.role = "img";
  track.title = track.ariaLabel = `95 % interval (Wilson): ${low.toFixed(1)} to ${high.toFixed(1)} %`;
  return [text, track];
}

function drawOutcomes({ outcomes, old_rules }: ListedRun): Node[] {
  const stack = element("div", "stack");
  const sorted = Object.entries(outcomes).sort(([a], [b]) => stackRank(a) - stackRank(b));
  for (const [outcome, n] of sorted) {
    const part = element("i", "", element("b", "", String(n)));
    part.dataset.outcome = outcome;
    part.style.flexGrow = String(n);
    part.title = `${outcomeInWords(outcome)}: ${n}`;
    stack.append(part);
  }
  stack.role = "img";
  stack.ariaLabel = sorted.map(([outcome, n]) => `${outcomeInWords(outcome)} ${n}`).join(", ");
  return old_rules ? [stack, element("span", "", old_rules)] : [stack];
}

/** Returns the place of an outcome in a bar: successes first, then the usual order. */
function stackRank(outcome: string): number {
  return outcome === "success" ? -1 : outcomeRank(outcome);
}

function drawEpisodes(run: ListedRun): (Node | string)[] {
  if (isFinished(run)) return [String(run.n_done)];
  const note = element("span", "unfinished", "unfinished");
  const ago = run.changed_s === null ? "" : ` Its files were last changed ${agoOf(run.changed_s)}.`;
  note.title = `The run is in progress or was stopped.${ago} This command finishes it: ${run.resume_command}`;
  return [`${run.n_done} of ${run.n_asked} `, note];
}

function agoOf(changed_s: number): string {
  const seconds = Math.max(0, Date.now() / 1000 - changed_s);
  const [unit, length] = ([["day", 86400], ["hour", 3600], ["minute", 60]] as const).find(([, s]) => seconds >= s) ?? [
    "second",
    1,
  ];
  return new Intl.RelativeTimeFormat("en").format(-Math.floor(seconds / length), unit);
}

function drawDoctor({ doctor: { level, n_errors, n_warnings, findings } }: ListedRun): Node[] {
  const counts = [counted(n_errors, "error"), counted(n_warnings, "warning")].filter(Boolean).join(", ");
  const verdict = element("span", level, counts || (level === "unknown" ? "not recorded" : "fine"));
  verdict.title = findings.join("\n") || (level === "fine" ? "no problems found" : "");
  return [verdict];
}

function counted(n: number, what: string): string {
  return n ? `${n} ${what}${n > 1 ? "s" : ""}` : "";
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
