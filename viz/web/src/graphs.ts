// One small graph an action dimension: commanded, measured, predicted. The curves are made once an episode; a step only
// moves the cursor.

import { element, onDragAlong, setText, svg } from "./dom";
import type { Episode } from "./episode";
import type { GrowingTable } from "./growing_table";

/** How far beyond the data a bound may lie to be in the graph, in spans of the data. */
const BOUND_REACH = 0.4;
/** The least span, as a share of the span between the bounds: less is noise. */
const LEAST_SPAN = 0.04;

interface Column {
  name: string;
  unit: string;
  action: number | null;
  state: number | null;
}

export class GraphPane {
  readonly root = element("section", "graphs");
  private readonly list = element("div", "graph-list");
  private graphs: Graph[] = [];
  private episode: Episode | null = null;

  constructor(private readonly onSeek: (step: number) => void) {
    const legend = element(
      "div",
      "legend",
      ...["commanded", "measured", "predicted", "bounds"].map((name) => element("span", `key ${name}`, name)),
    );
    this.root.append(legend, this.list);
  }

  /** The episode is another, or has grown. */
  load(episode: Episode): void {
    if (episode !== this.episode) {
      this.episode = episode;
      this.graphs = columnsOf(episode).map((column) => new Graph(column, this.onSeek));
      const stateOnly = this.graphs.findIndex(({ column }) => column.action === null);
      this.list.replaceChildren(...this.graphs.map(({ root }) => root));
      if (stateOnly >= 0) this.list.insertBefore(element("h3", "", "State"), this.graphs[stateOnly].root);
    }
    for (const graph of this.graphs) graph.load(episode);
  }

  draw(step: number): void {
    for (const graph of this.graphs) graph.draw(this.episode!, step);
  }
}

/** An action dimension and the state column of the same name and unit are one; the rest of the state comes after. */
function columnsOf({ header: { action, state } }: Episode): Column[] {
  const matching = action.names.map((name, i) =>
    state.names.findIndex((other, k) => other === name && state.units[k] === action.units[i]),
  );
  return [
    ...action.names.map((name, i) => ({
      name,
      unit: action.units[i],
      action: i,
      state: matching[i] < 0 ? null : matching[i],
    })),
    ...state.names
      .map((name, k) => ({ name, unit: state.units[k], action: null, state: k }))
      .filter(({ state: k }) => !matching.includes(k)),
  ];
}

class Graph {
  readonly root = element("div", "graph");
  private readonly plot = element("div", "plot");
  private readonly drawing = svg("svg", { preserveAspectRatio: "none" });
  private readonly commanded = curve("commanded");
  private readonly measured = curve("measured");
  private readonly predicted = curve("predicted");
  private readonly bounds = curve("bounds");
  private readonly cursor = element("div", "cursor");
  private readonly commandedNow = element("span", "value commanded");
  private readonly measuredNow = element("span", "value measured");
  private readonly top = element("span", "top");
  private readonly bottom = element("span", "bottom");
  private low = 0;
  private high = 1;
  private nSteps = 1;
  private shownDecision = NaN;

  constructor(
    readonly column: Column,
    onSeek: (step: number) => void,
  ) {
    this.root.dataset.column = column.name;
    this.drawing.append(this.bounds, this.measured, this.commanded, this.predicted);
    this.plot.append(this.drawing, this.top, this.bottom, this.cursor);
    this.root.append(
      element(
        "div",
        "head",
        element("b", "", column.name),
        element("span", "unit", unitText(column.unit)),
        this.commandedNow,
        this.measuredNow,
      ),
      this.plot,
    );
    onDragAlong(this.plot, (share) => onSeek(Math.round(share * this.nSteps)));
  }

  load(episode: Episode): void {
    const { action, state } = this.column;
    this.nSteps = episode.lastShownStep;
    this.chooseRange(episode);
    this.drawing.setAttribute("viewBox", `0 0 ${this.nSteps} 1`);
    // Action t is in force from moment t to t + 1.
    if (action !== null) this.commanded.setAttribute("d", this.stairs(episode.action, action));
    if (state !== null) this.measured.setAttribute("d", this.line(episode.state, state));
    this.shownDecision = NaN;
  }

  draw(episode: Episode, step: number): void {
    const { action, state } = this.column;
    this.cursor.style.left = `${(100 * step) / this.nSteps}%`;
    if (state !== null) setText(this.measuredNow, shortNumber(episode.state.at(step, state)));
    if (action === null) return;
    // After the last step nothing is commanded any more.
    setText(this.commandedNow, step < episode.action.length ? shortNumber(episode.action.at(step, action)) : "");
    const index = episode.decisionAt(step);
    if (index === this.shownDecision) return;
    this.shownDecision = index;
    this.predicted.setAttribute("d", index < 0 ? "" : this.plan(episode, index, action));
  }

  private chooseRange(episode: Episode): void {
    const { action, state } = this.column;
    let low = Infinity;
    let high = -Infinity;
    const widen = (values: ArrayLike<number>, first: number, stride: number) => {
      for (let i = first; i < values.length; i += stride) {
        // Comparisons with nan are false.
        if (values[i] < low) low = values[i];
        if (values[i] > high) high = values[i];
      }
    };
    if (state !== null) widen(episode.state.values, state, episode.state.width);
    if (action !== null) {
      widen(episode.action.values, action, episode.action.width);
      for (const { chunk } of episode.decisions) widen(chunk, action, episode.action.width);
    }
    if (low > high) [low, high] = [0, 1];
    const bounds = action === null ? [] : [episode.header.action.low[action], episode.header.action.high[action]];
    const finiteBounds = bounds.filter(Number.isFinite);
    const leastSpan =
      finiteBounds.length === 2 ? LEAST_SPAN * (bounds[1] - bounds[0]) : 1e-3 * Math.max(1, Math.abs(high));
    const missing = Math.max(0, leastSpan - (high - low));
    low -= missing / 2;
    high += missing / 2;
    const span = high - low;
    const near = finiteBounds.filter((bound) => bound > low - BOUND_REACH * span && bound < high + BOUND_REACH * span);
    this.low = Math.min(low, ...near) - 0.06 * span;
    this.high = Math.max(high, ...near) + 0.06 * span;
    setText(this.top, shortNumber(this.high));
    setText(this.bottom, shortNumber(this.low));
    this.bounds.setAttribute("d", near.map((bound) => `M0 ${this.y(bound)}H${this.nSteps}`).join(""));
  }

  private y(value: number): string {
    return (1 - (value - this.low) / (this.high - this.low)).toFixed(4);
  }

  private line(table: GrowingTable, column: number): string {
    return pathOf(table.length, (i) => `${i} ${this.y(table.at(i, column))}`);
  }

  private stairs(table: GrowingTable, column: number): string {
    return pathOf(table.length, (i) => `${i} ${this.y(table.at(i, column))}H${i + 1}`);
  }

  private plan(episode: Episode, index: number, action: number): string {
    const { step, chunk } = episode.decisions[index];
    const width = episode.action.width;
    return pathOf(chunk.length / width, (i) => `${step + i} ${this.y(chunk[i * width + action])}H${step + i + 1}`);
  }
}

function curve(name: string): SVGPathElement {
  return svg("path", { class: name, "vector-effect": "non-scaling-stroke" });
}

function pathOf(n: number, place: (i: number) => string): string {
  const places = Array.from({ length: n }, (_, i) => place(i));
  // What is nan is left out.
  return places
    .map((text, i) => (text.includes("NaN") ? "" : (i && !places[i - 1].includes("NaN") ? "L" : "M") + text))
    .join("");
}

function unitText(unit: string): string {
  return unit === "range_0_100" ? "0–100" : unit;
}

export function shortNumber(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 1 ? 1 : 3;
  return value
    .toFixed(digits)
    .replace(/^-(0(\.0*)?)$/, "$1")
    .replace("-", "−");
}
