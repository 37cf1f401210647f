// One episode: its moments and the decisions of the policy. Action t leads from moment t to moment t + 1.

import {
  decode,
  decodeBlocks,
  type CameraData,
  type DecisionData,
  type Header,
  type Part,
  type PlanData,
  type Row,
  type SeriesData,
} from "./format";
import { GrowingTable } from "./growing_table";

export interface CameraImage {
  name: string;
  image: HTMLImageElement;
  width: number;
  height: number;
  projection: number[] | null;
}

export interface Decision {
  step: number;
  /** Horizon x action dimension: the plan that was executed. */
  chunk: Float32Array;
  /** One path of positions per sampled plan, the executed one first. Empty until the plan has arrived. */
  paths: Float32Array[];
  intermediate_plans: Float32Array[];
  /** Null until the images have arrived. */
  cameras: CameraImage[] | null;
}

/** A recorded series, nan in rows without a value. */
export interface Series extends Omit<SeriesData, "values"> {
  table: GrowingTable;
}

export class Episode {
  readonly pose: GrowingTable;
  readonly state: GrowingTable;
  readonly action: GrowingTable;
  readonly progress: GrowingTable;
  readonly ee = new GrowingTable(3);
  readonly objectHeight = new GrowingTable(1);
  readonly goalDistance = new GrowingTable(1);
  readonly decisions: Decision[] = [];
  readonly series = new Map<string, Series>();
  private nParts = 0;

  constructor(
    readonly header: Header,
    readonly row: Row,
    nBodies: number,
  ) {
    this.pose = new GrowingTable(7 * nBodies);
    this.state = new GrowingTable(header.state.names.length);
    this.action = new GrowingTable(header.action.names.length);
    this.progress = new GrowingTable(header.stages.length);
  }

  /** @param index the index of the part. A part that was appended before is ignored. */
  append({ moments, decisions, series }: Part, index = this.nParts): void {
    if (index !== this.nParts) return;
    this.nParts++;
    this.decisions.push(...decisions.map(readDecision));
    for (const { values, ...described } of series) {
      const { name } = described;
      if (!this.series.has(name)) this.series.set(name, { ...described, table: new GrowingTable(1) });
      this.series.get(name)!.table.append(decode(values));
    }
    if (!moments) return;
    this.pose.append(decode(moments.body_pose));
    this.state.append(decode(moments.state));
    this.action.append(decode(moments.action));
    this.progress.append(decode(moments.progress));
    this.ee.append(decode(moments.ee));
    this.objectHeight.append(decode(moments.object_height));
    this.goalDistance.append(decode(moments.goal_distance));
  }

  /** Adds the plan of a decision that arrived without it. */
  addPlan(index: number, { path, intermediate_plans }: PlanData): void {
    this.decisions[index].paths = decodeBlocks(path);
    this.decisions[index].intermediate_plans = intermediate_plans ? decodeBlocks(intermediate_plans) : [];
  }

  /** Adds the images of a decision that arrived without them. */
  addImages(index: number, images: Record<string, CameraData>): void {
    this.decisions[index].cameras = readImages(images);
  }

  get nMoments(): number {
    return this.pose.length;
  }

  get nSteps(): number {
    return Math.max(0, this.nMoments - 1);
  }

  /** The step at which graphs and timeline end. In a running episode it includes the current plan. */
  get lastShownStep(): number {
    const last = this.decisions.at(-1);
    const planEnd = this.isRunning && last ? last.step + last.chunk.length / this.action.width : 0;
    return Math.max(1, this.nSteps, planEnd);
  }

  get isRunning(): boolean {
    return this.row.outcome === "running";
  }

  /** Returns the index of the current decision at a step, which may be made at that step; -1 before the first. */
  decisionAt(step: number): number {
    let low = 0;
    let high = this.decisions.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.decisions[middle].step <= step) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** Returns the number of actions of a plan that were executed, or will be. */
  nExecuted(index: number): number {
    const { step } = this.decisions[index];
    const next = this.decisions[index + 1];
    if (next) return next.step - step;
    return this.isRunning ? Math.max(this.header.n_action_steps, this.nSteps - step) : this.nSteps - step;
  }

  /** Returns the last stage that holds at a moment, or null. "released" counts only after the object was held. */
  stageAt(step: number): string | null {
    const flags = this.progress.row(step);
    return this.header.stages.findLast((name, i) => flags[i] && (name !== "released" || flags[i - 1])) ?? null;
  }
}

/** Returns the reason why a row has no episode to show, or null if it has one. */
export function whyNothingToShow(row: Row): string | null {
  if (row.error) return `This episode crashed: ${row.error}`;
  if (!row.n_predictions && row.outcome !== "running")
    return "Nothing was recorded in this episode, since it has no prediction.";
  return null;
}

function readDecision({ step, chunk, path, intermediate_plans, cameras }: DecisionData): Decision {
  return {
    step,
    chunk: decode(chunk),
    paths: path ? decodeBlocks(path) : [],
    intermediate_plans: intermediate_plans ? decodeBlocks(intermediate_plans) : [],
    cameras: cameras && readImages(cameras),
  };
}

function readImages(images: Record<string, CameraData>): CameraImage[] {
  return Object.entries(images).map(([name, { src, width, height, projection }]) => {
    const image = new Image();
    image.src = src;
    return { name, image, width, height, projection };
  });
}
