// The timeline of an episode: stages, predictions, the decisive step and the shown step.

import { element, onDragAlong, svg } from "./dom";
import type { Episode } from "./episode";
import { inWords, outcomeInWords } from "./outcomes";

const STAGE_HEIGHT = 11;
const STAGE_GAP = 3;

export class Timeline {
  readonly root = element("section", "timeline");
  private readonly names = element("div", "names");
  private readonly track = element("div", "track");
  private readonly bands = svg("svg", { class: "bands", preserveAspectRatio: "none" });
  private readonly ticks = svg("svg", { class: "ticks", preserveAspectRatio: "none", viewBox: "0 0 1 1" });
  private readonly executed = element("div", "executed");
  private readonly marks = element("div", "marks");
  private readonly playhead = element("div", "playhead");
  private nSteps = 1;

  constructor(onSeek: (step: number) => void) {
    this.track.append(this.executed, this.ticks, this.bands, this.marks, this.playhead);
    this.root.append(this.names, this.track);
    onDragAlong(this.track, (share) => onSeek(Math.round(share * this.nSteps)));
  }

  /** Updates the timeline after a change of the episode. */
  load(episode: Episode): void {
    const { stages, branch } = episode.header;
    this.nSteps = episode.lastShownStep;
    this.names.replaceChildren(
      element("span", "", "predictions"),
      ...stages.map((name) => element("span", "", inWords(name))),
    );
    this.bands.setAttribute("viewBox", `0 0 ${this.nSteps} ${stages.length * (STAGE_HEIGHT + STAGE_GAP)}`);
    this.bands.style.height = `${stages.length * (STAGE_HEIGHT + STAGE_GAP)}px`;
    this.bands.replaceChildren(
      ...stages.flatMap((name, stage) => {
        const y = stage * (STAGE_HEIGHT + STAGE_GAP);
        const row = svg("rect", { class: "row", x: 0, y, width: this.nSteps, height: STAGE_HEIGHT });
        // A moment extends half a step to both sides.
        const held = stretches(episode.nMoments, (i) => episode.progress.at(i, stage) > 0).map(([begin, end]) =>
          svg("rect", { class: `stage ${name}`, x: begin - 0.5, y, width: end - begin, height: STAGE_HEIGHT }),
        );
        return [row, ...held];
      }),
    );
    const ticks = episode.decisions.map(({ step }) => `M${step / this.nSteps} 0V1`).join("");
    this.ticks.replaceChildren(svg("path", { d: ticks, "vector-effect": "non-scaling-stroke" }));
    this.marks.replaceChildren();
    if (branch) this.mark("branch", branch.at_step, `branched off here: ${branch.changes}`, "branched off");
    const { outcome, decided_at_step, decisive_step, decisive_event, success, failed_stage } = episode.row;
    const step = decisive_step ?? decided_at_step;
    if (step !== null) {
      const why = failed_stage ? `, failed stage: ${inWords(failed_stage)}` : "";
      const what = decisive_event && !success ? inWords(decisive_event) : "decided";
      this.mark(
        success ? "success" : "failure",
        step,
        `${outcomeInWords(outcome)}${why}, ${what} at step ${step}`,
        decisive_event && !success ? what : outcomeInWords(outcome),
      );
    }
  }

  draw(episode: Episode, step: number): void {
    this.playhead.style.left = `${(100 * step) / this.nSteps}%`;
    const index = episode.decisionAt(step);
    this.executed.hidden = index < 0;
    if (index < 0) return;
    this.executed.style.left = `${(100 * episode.decisions[index].step) / this.nSteps}%`;
    this.executed.style.width = `${(100 * episode.nExecuted(index)) / this.nSteps}%`;
  }

  private mark(kind: string, step: number, hint: string, label: string): void {
    const mark = element("div", `mark ${kind}`, element("span", step > this.nSteps / 2 ? "left" : "", label));
    mark.style.left = `${(100 * Math.min(step, this.nSteps)) / this.nSteps}%`;
    mark.title = hint;
    this.marks.append(mark);
  }
}

/** Returns the intervals in which something holds, without their ends. */
function stretches(n: number, holds: (i: number) => boolean): [number, number][] {
  const found: [number, number][] = [];
  for (let i = 0; i < n; i++) {
    if (!holds(i)) continue;
    const last = found.at(-1);
    if (last?.[1] === i) last[1] = i + 1;
    else found.push([i, i + 1]);
  }
  return found;
}
