// One episode: its moments, and the decisions of the policy. Action t leads from moment t to moment t + 1.

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
  /** One path of positions a sampled plan; the executed one first. Empty until the plan has come. */
  paths: Float32Array[];
  intermediate_plans: Float32Array[];
  /** Null until the images have come. */
  cameras: CameraImage[] | null;
}

/** What was recorded besides; nan in rows without a value. */
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

  /** @param index the place of the part: one that is there already is not appended again. */
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

  /** Give a decision the plan that it came without. */
  addPlan(index: number, { path, intermediate_plans }: PlanData): void {
    this.decisions[index].paths = decodeBlocks(path);
    this.decisions[index].intermediate_plans = intermediate_plans ? decodeBlocks(intermediate_plans) : [];
  }

  /** Give a decision the images that it came without. */
  addImages(index: number, images: Record<string, CameraData>): void {
    this.decisions[index].cameras = readImages(images);
  }

  get nMoments(): number {
    return this.pose.length;
  }

  get nSteps(): number {
    return Math.max(0, this.nMoments - 1);
  }

  /** Where graphs and timeline end: of a running episode with the plan that lies ahead. */
  get lastShownStep(): number {
    const last = this.decisions.at(-1);
    const planEnd = this.isRunning && last ? last.step + last.chunk.length / this.action.width : 0;
    return Math.max(1, this.nSteps, planEnd);
  }

  get isRunning(): boolean {
    return this.row.outcome === "running";
  }

  /** The decision in force at a step; -1 before the first. One made at that step counts already. */
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

  /** How many actions of a plan were run, or are going to be. */
  nExecuted(index: number): number {
    const { step } = this.decisions[index];
    const next = this.decisions[index + 1];
    if (next) return next.step - step;
    return this.isRunning ? Math.max(this.header.n_action_steps, this.nSteps - step) : this.nSteps - step;
  }

  /** The furthest stage that holds at a moment; null: none. What was never held is "released" too: that is no stage. */
  stageAt(step: number): string | null {
    const flags = this.progress.row(step);
    return this.header.stages.findLast((name, i) => flags[i] && (name !== "released" || flags[i - 1])) ?? null;
  }
}

/** Why a row has no episode to show; null where it has one. */
export function whyNothingToShow(row: Row): string | null {
  if (row.error) return `This episode crashed: ${row.error}`;
  if (!row.n_predictions && row.outcome !== "running")
    return "Nothing was recorded of this episode: it has no prediction.";
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
