// The graph of one channel: commanded, measured and predicted values, and values measured in other futures. The curves are
// made once per episode and window; a step only moves the cursor.

import { commandedAt, measuredAt, type Channel } from "./channels";
import { element, setText, svg } from "./dom";
import type { Episode } from "./episode";
import type { OtherFuture } from "./lines";

/** A bound is shown if it lies within this distance of the data, in spans of the data. */
const BOUND_REACH = 0.4;
/** The least span of the graph, as a share of the span between the bounds. Smaller changes are noise. */
const LEAST_SPAN = 0.04;

/** A range of steps. */
export interface Span {
  begin: number;
  end: number;
}

export class Graph {
  readonly root = element("div", "graph");
  readonly plot = element("div", "plot");
  private readonly drawing = svg("svg", { preserveAspectRatio: "none" });
  private readonly commanded = curve("commanded");
  private readonly measured = curve("measured");
  private readonly predicted = curve("predicted");
  private readonly other = curve("other");
  private readonly bounds = curve("bounds");
  private readonly cursor = element("div", "cursor");
  private readonly pointer = element("div", "pointer");
  private readonly commandedNow = element("span", "value commanded");
  private readonly measuredNow = element("span", "value measured");
  private readonly top = element("span", "top");
  private readonly bottom = element("span", "bottom");
  private low = 0;
  private high = 1;
  private span: Span = { begin: 0, end: 1 };
  private shownDecision = NaN;

  constructor(
    readonly channel: Channel,
    onHide: () => void,
  ) {
    this.root.dataset.column = channel.name;
    this.drawing.append(this.bounds, this.other, this.measured, this.commanded, this.predicted);
    this.plot.append(this.drawing, this.top, this.bottom, this.cursor, this.pointer);
    const name = element("b", "", channel.name);
    if (channel.meaning) name.title = channel.meaning;
    const hide = element("button", "hide", "×");
    hide.title = hide.ariaLabel = `hide ${channel.name}`;
    hide.onclick = onHide;
    this.root.append(
      element(
        "div",
        "head",
        name,
        element("span", "unit", channel.unit ? `[${channel.unit}]` : ""),
        this.commandedNow,
        this.measuredNow,
        hide,
      ),
      this.plot,
    );
    this.point(null);
  }

  /** Redraws the curves after a change of the episode, the window or another future. */
  load(episode: Episode, others: readonly OtherFuture[], span: Span): void {
    const { channel } = this;
    this.span = span;
    const values = (future: Episode) => (step: number) => measuredAt(channel, future, step);
    this.chooseRange(episode, others);
    this.drawing.setAttribute("viewBox", `${span.begin} 0 ${span.end - span.begin} 1`);
    // Action t applies from moment t to t + 1.
    this.commanded.setAttribute("d", this.stairs((step) => commandedAt(channel, episode, step)));
    this.measured.setAttribute("d", this.measuredLine(values(episode), 0));
    this.other.setAttribute("d", others.map((future) => this.otherLine(future)).join(""));
    this.shownDecision = NaN;
  }

  draw(episode: Episode, step: number): void {
    const { channel } = this;
    this.cursor.style.left = this.place(step);
    if (channel.measured) setText(this.measuredNow, shortNumber(measuredAt(channel, episode, step)));
    if (channel.action === null) return;
    // Nothing is commanded after the last step.
    setText(this.commandedNow, step < episode.action.length ? shortNumber(commandedAt(channel, episode, step)) : "");
    const index = episode.decisionAt(step);
    if (index === this.shownDecision) return;
    this.shownDecision = index;
    this.predicted.setAttribute("d", index < 0 ? "" : this.plan(episode, index, channel.action));
  }

  /** Marks the step at the pointer. */
  point(step: number | null): void {
    this.pointer.hidden = step === null;
    if (step !== null) this.pointer.style.left = this.place(step);
  }

  private place(step: number): string {
    return `${(100 * (step - this.span.begin)) / (this.span.end - this.span.begin)}%`;
  }

  private chooseRange(episode: Episode, others: readonly OtherFuture[]): void {
    const { action } = this.channel;
    const { begin, end } = this.span;
    let low = Infinity;
    let high = -Infinity;
    const widen = (value: number) => {
      // Comparisons with nan are false.
      if (value < low) low = value;
      if (value > high) high = value;
    };
    for (let step = begin; step <= end; step++) {
      widen(measuredAt(this.channel, episode, step));
      widen(commandedAt(this.channel, episode, step));
      for (const { episode: future, fromStep } of others)
        if (step >= fromStep) widen(measuredAt(this.channel, future, step));
    }
    if (action !== null)
      for (const { step: first, chunk } of episode.decisions)
        for (let i = action, step = first; i < chunk.length; i += episode.action.width, step++)
          if (step >= begin && step <= end) widen(chunk[i]);
    this.root.classList.toggle("empty", low > high);
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
    this.bounds.setAttribute("d", near.map((bound) => `M${begin} ${this.y(bound)}H${end}`).join(""));
  }

  private y(value: number): string {
    return (1 - (value - this.low) / (this.high - this.low)).toFixed(4);
  }

  /** Values of moments are joined by a line. Values of steps and predictions are drawn as stairs. */
  private measuredLine(value: (step: number) => number, from: number): string {
    const { axis } = this.channel;
    return !axis || axis === "moment" ? this.line(value, from) : this.stairs(value, from, this.span.end - 1);
  }

  private line(value: (step: number) => number, from: number): string {
    return pathOf(Math.max(from, this.span.begin), this.span.end, (step) => `${step} ${this.y(value(step))}`);
  }

  private stairs(value: (step: number) => number, from = 0, to = this.span.end): string {
    const { begin, end } = this.span;
    const place = (step: number) => `${step} ${this.y(value(step))}H${step + 1}`;
    return pathOf(Math.max(from, begin), Math.min(to, end), place);
  }

  /** Returns the measured values of another future, or the commanded ones if nothing is measured. */
  private otherLine({ episode, fromStep }: OtherFuture): string {
    const { channel } = this;
    if (channel.measured) return this.measuredLine((step) => measuredAt(channel, episode, step), fromStep);
    return this.stairs((step) => commandedAt(channel, episode, step), fromStep);
  }

  private plan(episode: Episode, index: number, action: number): string {
    const { step: first, chunk } = episode.decisions[index];
    const width = episode.action.width;
    const horizon = chunk.length / width;
    return this.stairs((step) => chunk[(step - first) * width + action], first, first + horizon - 1);
  }
}

export function shortNumber(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 1 ? 1 : 3;
  return value
    .toFixed(digits)
    .replace(/^-(0(\.0*)?)$/, "$1")
    .replace("-", "−");
}

function curve(name: string): SVGPathElement {
  return svg("path", { class: name, "vector-effect": "non-scaling-stroke" });
}

/** Returns the path over the steps from `first` to `last`, with gaps where values are nan. */
function pathOf(first: number, last: number, place: (step: number) => string): string {
  let path = "";
  let isOpen = false;
  for (let step = first; step <= last; step++) {
    const text = place(step);
    const isThere = !text.includes("NaN");
    if (isThere) path += (isOpen ? "L" : "M") + text;
    isOpen = isThere;
  }
  return path;
}
