// All episodes as a grid: a cell per episode, sorted by task, in the colour of its outcome.

import { element } from "./dom";
import type { Row } from "./format";
import { compareNames, type TaskName } from "./task_names";
import { outcomeInWords } from "./outcomes";

export class TaskGrid {
  readonly root = element("div", "grid");
  private cells = new Map<string, HTMLAnchorElement>();
  private current: string | null = null;

  /** @param hrefOf returns the address of an episode from its key. */
  constructor(private readonly hrefOf: (key: string) => string) {
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    // After a click, the keys control the picture again.
    this.root.addEventListener("click", () => (document.activeElement as HTMLElement | null)?.blur());
  }

  /** @param names names of the tasks. The name of a single task is not shown. */
  load(rows: readonly Row[], names: ReadonlyMap<string, TaskName>): void {
    // Keep the focus, because new episodes may arrive while the grid is used with keys.
    const focused = [...this.cells].find(([, cell]) => cell === document.activeElement)?.[0];
    this.cells = new Map();
    const trunks = rows.filter(({ branch }) => !branch);
    const tasks = [...Map.groupBy(trunks, ({ task }) => task)].sort(([a], [b]) =>
      compareNames(names.get(a)!.short, names.get(b)!.short),
    );
    const nDigits = String(Math.max(0, ...trunks.map(({ episode_index }) => episode_index))).length;
    this.root.style.setProperty("--cell", `${nDigits < 3 ? 18 : 8 * nDigits + 4}px`);
    this.root.replaceChildren(
      ...tasks.map(([task, rowsOfTask]) => {
        const section = element("section", "task", this.drawCells(rowsOfTask));
        if (tasks.length > 1) section.prepend(drawHead(names.get(task)!, rowsOfTask));
        return section;
      }),
    );
    this.select(this.current);
    if (focused) this.cells.get(focused)?.focus();
  }

  /** @param keys keys of the matching episodes. All others fade. */
  highlight(keys: ReadonlySet<string>): void {
    for (const [key, cell] of this.cells) cell.classList.toggle("faded", !keys.has(key));
  }

  select(key: string | null): void {
    this.cells.get(this.current ?? "")?.classList.remove("current");
    this.current = key;
    const cell = this.cells.get(key ?? "");
    cell?.classList.add("current");
    cell?.scrollIntoView({ block: "nearest" });
    // TAB reaches a single cell, from which the arrow keys continue.
    const entry = cell ?? this.cells.values().next().value;
    for (const each of this.cells.values()) each.tabIndex = each === entry ? 0 : -1;
  }

  private drawCells(rows: Row[]): HTMLElement {
    const cells = element("div", "cells");
    for (const row of rows.sort((a, b) => a.episode_index - b.episode_index)) {
      const cell = element("a", "cell", String(row.episode_index));
      cell.href = this.hrefOf(row.key);
      cell.dataset.key = row.key;
      cell.dataset.outcome = row.outcome;
      cell.title = cell.ariaLabel = `${row.key}: ${outcomeInWords(row.outcome)}`;
      this.cells.set(row.key, cell);
      cells.append(cell);
    }
    return cells;
  }

  private onKey(event: KeyboardEvent): void {
    const focused = document.activeElement;
    if (!(focused instanceof HTMLElement) || !event.key.startsWith("Arrow")) return;
    const cells = [...this.cells.values()];
    const index = cells.findIndex((cell) => cell === focused);
    if (index < 0) return;
    event.preventDefault();
    event.stopPropagation();
    (cells[neighbour(cells, index, event.key)] ?? focused).focus();
  }
}

/** "3  from table center  2 of 10" */
function drawHead({ short, words }: TaskName, rows: readonly Row[]): HTMLElement {
  const nSuccess = rows.filter(({ success }) => success).length;
  const head = element(
    "h3",
    "",
    element("b", "", short),
    element("span", "words", words),
    element("span", "count", `${nSuccess} of ${rows.length}`),
  );
  head.title = `task ${short}: ${words}; ${nSuccess} of ${rows.length} succeeded`;
  return head;
}

/** Returns the cell that an arrow key leads to. Up and down lead to the nearest cell of the next line. */
function neighbour(cells: readonly HTMLElement[], index: number, key: string): number {
  if (key === "ArrowRight") return index + 1;
  if (key === "ArrowLeft") return index - 1;
  const from = cells[index].getBoundingClientRect();
  const sign = key === "ArrowDown" ? 1 : -1;
  let best = -1;
  let bestDistance = Infinity;
  cells.forEach((cell, i) => {
    const { left, top } = cell.getBoundingClientRect();
    const lines = sign * (top - from.top);
    if (lines < 1) return;
    // The distance in lines counts more than any distance along a line.
    const distance = 1e4 * lines + Math.abs(left - from.left);
    if (distance < bestDistance) [best, bestDistance] = [i, distance];
  });
  return best;
}
