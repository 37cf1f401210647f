// The graphs of all channels over a common time axis that can be zoomed. Each graph can be hidden, and shows the values at
// the pointer.

import { channelsOf, commandedAt, measuredAt, predictedAt } from "./channels";
import { element, onDragAlong, setText } from "./dom";
import type { Episode } from "./episode";
import { Graph, shortNumber, type Span } from "./graph";
import type { OtherFuture } from "./lines";
import { TimeAxis } from "./time_axis";

/** The shortest window, in steps. */
const LEAST_STEPS = 10;
const ZOOM = 2;

export class GraphPane {
  readonly root = element("section", "graphs");
  readonly buttons = element("div", "buttons");
  private readonly list = element("div", "graph-list");
  private readonly hiddenList = element("div", "hidden-channels");
  private readonly otherKey = element("span", "key other", "other future");
  private readonly tip = element("div", "tip");
  private readonly axis = new TimeAxis();
  private readonly hidden = new Set<string>();
  private graphs: Graph[] = [];
  private episode: Episode | null = null;
  private names = "";
  private others: readonly OtherFuture[] = [];
  /** Null: all steps. */
  private zoomed: Span | null = null;
  private step = 0;

  constructor(private readonly onSeek: (step: number) => void) {
    const legend = element(
      "div",
      "legend",
      ...["commanded", "measured", "predicted", "bounds"].map((name) => element("span", `key ${name}`, name)),
      this.otherKey,
      this.buttons,
    );
    this.tip.hidden = this.hiddenList.hidden = true;
    this.root.append(legend, this.hiddenList, this.list, this.tip);
    this.list.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.list.addEventListener("pointermove", (event) => this.onPointer(event));
    this.list.addEventListener("pointerleave", () => this.point(null));
  }

  get span(): Span {
    return this.zoomed ?? { begin: 0, end: this.episode?.lastShownStep ?? 1 };
  }

  get hiddenNames(): string[] {
    return [...this.hidden];
  }

  /** Updates the graphs after a change of the episode or of another future. */
  load(episode: Episode, others: readonly OtherFuture[]): void {
    if (episode !== this.episode) this.zoomed = null;
    const channels = channelsOf(episode);
    const names = channels.map(({ name }) => name).join();
    // In a live episode, a channel may get its first number late.
    if (episode !== this.episode || names !== this.names) {
      this.episode = episode;
      this.names = names;
      this.graphs = channels.map((channel) => {
        const graph = new Graph(channel, () => this.hide(channel.name));
        const toStep = (share: number) => Math.round(this.span.begin + share * (this.span.end - this.span.begin));
        onDragAlong(graph.plot, (share) => this.onSeek(toStep(share)));
        return graph;
      });
      this.list.replaceChildren(...this.graphs.map(({ root }) => root), this.axis.root);
      this.showHidden();
    }
    this.others = others;
    this.otherKey.hidden = !others.length;
    setText(this.otherKey, others.length > 1 ? `${others.length} other futures` : (others[0]?.name ?? "other future"));
    this.reload();
  }

  draw(step: number): void {
    this.step = step;
    if (this.zoomed && (step < this.zoomed.begin || step > this.zoomed.end)) {
      this.centre(step, this.zoomed.end - this.zoomed.begin);
      this.reload();
    }
    for (const graph of this.graphs) graph.draw(this.episode!, step);
  }

  /** Shows half or twice the number of steps. The fixed step keeps its place. */
  zoom(direction: 1 | -1, fixed: number | null = null): void {
    if (!this.episode) return;
    const { begin, end } = this.span;
    const length = Math.max(LEAST_STEPS, Math.round((end - begin) * (direction > 0 ? 1 / ZOOM : ZOOM)));
    const share = fixed === null ? 0.5 : (fixed - begin) / (end - begin);
    this.centre((fixed ?? this.step) + Math.round((0.5 - share) * length), length);
    this.reload();
    this.draw(this.step);
  }

  private centre(step: number, length: number): void {
    const last = this.episode!.lastShownStep;
    const begin = Math.max(0, Math.min(last - length, Math.round(step - length / 2)));
    this.zoomed = length >= last ? null : { begin, end: begin + length };
  }

  private reload(): void {
    for (const graph of this.graphs) graph.load(this.episode!, this.others, this.span);
    this.axis.load(this.span, this.episode!.header.control_dt_s);
  }

  private hide(name: string): void {
    this.hidden.add(name);
    this.showHidden();
  }

  private showHidden(): void {
    for (const { root, channel } of this.graphs) root.hidden = this.hidden.has(channel.name);
    const names = this.graphs.map(({ channel }) => channel.name).filter((name) => this.hidden.has(name));
    this.hiddenList.hidden = !names.length;
    this.hiddenList.replaceChildren(
      "hidden:",
      ...names.map((name) => {
        const chip = element("button", "chip", name);
        chip.title = `show ${name} again`;
        chip.onclick = () => {
          this.hidden.delete(name);
          this.showHidden();
        };
        return chip;
      }),
    );
  }

  /** The wheel scrolls. With Ctrl (which a pinch sends), and over the axis, it zooms. */
  private onWheel(event: WheelEvent): void {
    const isOnAxis = this.axis.root.contains(event.target as Node);
    if ((!event.ctrlKey && !isOnAxis) || !event.deltaY) return;
    event.preventDefault();
    const plot = this.graphs.find(({ root }) => !root.hidden)?.plot ?? this.axis.root;
    this.zoom(event.deltaY < 0 ? 1 : -1, this.stepAt(event, plot));
    this.point(null);
  }

  private stepAt({ clientX }: MouseEvent, plot: HTMLElement): number {
    const { left, width } = plot.getBoundingClientRect();
    const { begin, end } = this.span;
    const step = Math.round(begin + ((clientX - left) / width) * (end - begin));
    return Math.max(begin, Math.min(end, step));
  }

  private onPointer(event: PointerEvent): void {
    const graph = this.graphs.find(({ plot }) => plot.contains(event.target as Node)) ?? null;
    this.point(graph, event);
  }

  private point(graph: Graph | null, event?: PointerEvent): void {
    const step = graph && event ? this.stepAt(event, graph.plot) : null;
    for (const each of this.graphs) each.point(step);
    this.tip.hidden = step === null;
    if (!graph || !event || step === null) return;
    setText(this.tip, this.valuesAt(graph, step));
    // The tip stands beside the pointer, on the side with more room.
    const { left, top, width } = this.root.getBoundingClientRect();
    const isRight = event.clientX - left > width / 2;
    this.tip.style.left = isRight ? "" : `${event.clientX - left + 14}px`;
    this.tip.style.right = isRight ? `${left + width - event.clientX + 14}px` : "";
    this.tip.style.top = `${event.clientY - top}px`;
  }

  private valuesAt({ channel }: Graph, step: number): string {
    const episode = this.episode!;
    const values: [string, number][] = [
      ["commanded", commandedAt(channel, episode, step)],
      ["measured", measuredAt(channel, episode, step)],
      ["predicted", predictedAt(channel, episode, this.step, step)],
      ...this.others
        .filter(({ fromStep }) => step >= fromStep)
        .map(({ episode: future, name }): [string, number] => [name ?? future.header.key, measuredAt(channel, future, step)]),
    ];
    const there = values.filter(([, value]) => Number.isFinite(value));
    const lines = there.map(([name, value]) => `${name} ${shortNumber(value)}`);
    return [`step ${step}, ${(step * episode.header.control_dt_s).toFixed(2)} s`, ...lines].join("\n");
  }
}
