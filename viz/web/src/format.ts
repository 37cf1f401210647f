// The data as `viz/page_data.py` writes it, and how its arrays are read.

export const FORMAT_VERSION = 1;

const ARRAY_TYPES = {
  float32: Float32Array,
  int32: Int32Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
} as const;

type ArrayTypes = typeof ARRAY_TYPES;
type Dtype = keyof ArrayTypes;

/** Little endian, C order. */
export interface Encoded<D extends Dtype = Dtype> {
  dtype: D;
  shape: number[];
  base64: string;
}

export interface Row {
  key: string;
  task: string;
  episode_index: number;
  outcome: string;
  success: boolean;
  n_steps: number;
  /** Null while it runs. */
  decided_at_step: number | null;
  /** Where it went wrong; null while it runs and in older runs. */
  decisive_step: number | null;
  decisive_event: string | null;
  failed_stage: string | null;
  n_predictions: number;
  error: string;
  /** Null, or absent: none. */
  branch?: Branch | null;
}

/** Where and how an episode left another one. */
export interface Branch {
  of: string;
  at_step: number;
  at_prediction: number;
  changes: string;
}

export interface Page {
  version: number;
  kind: "export" | "run" | "live";
  run: string;
  policy: string;
  checkpoint: string | null;
  env: string;
  /** A remark on outcomes that older rules made, or "". */
  old_rules: string;
  /** Task → the name to evaluate it by, as "libero_spatial/3". */
  task_envs?: Record<string, string>;
  episodes: Row[];
  key: string | null;
  show_intermediate: boolean;
  /** What the policy cannot do in a branch, and why; "branch": it cannot go back at all. */
  unusable: Partial<Record<BranchField | "branch", string>>;
  most_action_steps: number;
  /** Of a recorded run: how many rows there are, and how many were asked for and have not come yet. */
  n_rows?: number;
  n_missing?: number;
  has_report?: boolean;
}

/** Rows that have come since. */
export interface NewRows {
  rows: Row[];
  n_rows: number;
  n_missing: number;
}

/** What can be otherwise in a branch. */
export type BranchField = "seed" | "n_action_steps" | "instruction" | "blinded";

export interface MeshData {
  vertices: Encoded<"uint16">;
  origin: number[];
  step: number;
  faces: Encoded<"uint16" | "uint32">;
  colours: Encoded<"uint8"> | null;
}

export interface ShapeData {
  body: number;
  kind: "plane" | "sphere" | "capsule" | "ellipsoid" | "cylinder" | "box" | "mesh";
  size: number[];
  /** Position and quaternion wxyz in the body's frame. */
  pose: number[];
  rgba: number[];
  mesh: number | null;
}

export interface SceneData {
  bodies: string[];
  meshes: MeshData[];
  shapes: ShapeData[];
  /** Why there is nothing to draw, of an environment that does not say what it looks like. */
  why_empty?: string;
}

export interface Header {
  key: string;
  scene: string;
  task: string;
  instruction: string;
  stages: string[];
  control_dt_s: number;
  n_action_steps: number;
  intermediate_plans: "none" | "flow" | "ensemble";
  cameras_seen: boolean;
  /** Those whose images every decision has, px. */
  cameras: { name: string; width: number; height: number }[];
  state: { names: string[]; units: string[] };
  action: { names: string[]; units: string[]; low: number[]; high: number[] };
  view: { eye: number[]; target: number[] };
  /** Null, or absent: none. */
  branch?: Branch | null;
}

export interface MomentsData {
  body_pose: Encoded<"float32">;
  state: Encoded<"float32">;
  action: Encoded<"float32">;
  ee: Encoded<"float32">;
  object: Encoded<"float32">;
  object_height: Encoded<"float32">;
  goal_distance: Encoded<"float32">;
  progress: Encoded<"uint8">;
}

export interface CameraData {
  src: string;
  width: number;
  height: number;
  /** Row-major 3x4: P (x, y, z, 1) = w (u, v, 1), u and v in pixels. Null: no line can be drawn into the image. */
  projection: number[] | null;
}

export interface DecisionData {
  step: number;
  chunk: Encoded<"float32">;
  /** Null: to be asked for when it is looked at, with the intermediate plans. */
  path: Encoded<"float32"> | null;
  intermediate_plans: Encoded<"float32"> | null;
  /** Null: to be asked for when they are looked at. */
  cameras: Record<string, CameraData> | null;
}

/** What a decision planned, where it came without it. */
export interface PlanData {
  path: Encoded<"float32">;
  intermediate_plans: Encoded<"float32"> | null;
}

/** New rows of a series: one number a moment, control step or prediction. */
export interface SeriesData {
  name: string;
  title: string;
  unit: string;
  axis: "moment" | "step" | "prediction";
  meaning: string;
  values: Encoded<"float32">;
}

/** Moments, decisions and rows of series to be appended. */
export interface Part {
  /** Null: decisions only. */
  moments: MomentsData | null;
  decisions: DecisionData[];
  series: SeriesData[];
}

export interface EpisodeData {
  header: Header;
  parts: Part[];
}

/** An export: all that the page shows. */
export interface Inlined {
  page: Page;
  scenes: Record<string, SceneData>;
  episodes: Record<string, EpisodeData>;
}

export function bytesOfBase64(base64: string): Uint8Array<ArrayBuffer> {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

export function decode<D extends Dtype>(array: Encoded<D>): InstanceType<ArrayTypes[D]> {
  return new ARRAY_TYPES[array.dtype](bytesOfBase64(array.base64).buffer) as InstanceType<ArrayTypes[D]>;
}

/** The blocks of an array along its first axis. */
export function decodeBlocks(array: Encoded<"float32">): Float32Array[] {
  const all = decode(array);
  const size = array.shape.slice(1).reduce((product, n) => product * n, 1);
  return Array.from({ length: array.shape[0] }, (_, i) => all.subarray(i * size, (i + 1) * size));
}
