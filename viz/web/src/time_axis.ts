// The time axis below the graphs, in seconds.

import { element } from "./dom";
import type { Span } from "./graph";

const INTERVALS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500];
const MOST_TICKS = 6;

export class TimeAxis {
  readonly root = element("div", "time-axis");

  load({ begin, end }: Span, controlDtS: number): void {
    const duration = (end - begin) * controlDtS;
    const interval = INTERVALS_S.find((candidate) => duration / candidate <= MOST_TICKS) ?? duration;
    const first = Math.ceil((begin * controlDtS) / interval - 1e-9);
    const last = Math.floor((end * controlDtS) / interval + 1e-9);
    const ticks = Array.from({ length: last - first + 1 }, (_, i) => {
      const time = (first + i) * interval;
      const tick = element("span", "tick", `${Number(time.toFixed(1))} s`);
      // At the end of the axis there is no room to the right of the label.
      tick.classList.toggle("last", time / controlDtS > begin + 0.97 * (end - begin));
      tick.style.left = `${(100 * (time / controlDtS - begin)) / (end - begin)}%`;
      return tick;
    });
    this.root.replaceChildren(element("div", "ticks-of-time", ...ticks));
  }
}
