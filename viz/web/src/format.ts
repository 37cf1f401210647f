// Types of the data that `viz/page_data.py` writes, and functions that read its arrays.

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
  /** Null while the episode runs. */
  decided_at_step: number | null;
  /** The step at which it went wrong; null while the episode runs, and in older runs. */
  decisive_step: number | null;
  decisive_event: string | null;
  failed_stage: string | null;
  n_predictions: number;
  error: string;
  /** Null or absent if the episode is no branch. */
  branch?: Branch | null;
}

/** Where a branch left another episode, and what it changed. */
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
  /** A remark on outcomes that were judged by older rules, or "". */
  old_rules: string;
  /** Task → the environment name with which it is evaluated, e.g. "libero_spatial/3". */
  task_envs?: Record<string, string>;
  episodes: Row[];
  key: string | null;
  show_intermediate: boolean;
  /** Inputs of a branch that the policy cannot use, with the reason; "branch": it cannot branch at all. */
  unusable: Partial<Record<BranchField | "branch", string>>;
  most_action_steps: number;
  /** For a recorded run: the number of rows, and of requested episodes that have not ended yet. */
  n_rows?: number;
  n_missing?: number;
  has_report?: boolean;
}

/** Rows that were added since the last request. */
export interface NewRows {
  rows: Row[];
  n_rows: number;
  n_missing: number;
}

/** Inputs that a branch can change. */
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
  /** The reason why there is nothing to draw, for an environment that cannot be drawn. */
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
  /** Cameras whose images every decision has, with their size in px. */
  cameras: { name: string; width: number; height: number }[];
  state: { names: string[]; units: string[] };
  action: { names: string[]; units: string[]; low: number[]; high: number[] };
  view: { eye: number[]; target: number[] };
  /** Null or absent if the episode is no branch. */
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
  /** Row-major 3x4 matrix P with P (x, y, z, 1) = w (u, v, 1), u and v in px. Null if no line can be drawn in. */
  projection: number[] | null;
}

export interface DecisionData {
  step: number;
  chunk: Encoded<"float32">;
  /** Null if it is to be fetched when it is shown, together with the intermediate plans. */
  path: Encoded<"float32"> | null;
  intermediate_plans: Encoded<"float32"> | null;
  /** Null if they are to be fetched when they are shown. */
  cameras: Record<string, CameraData> | null;
}

/** The plan of a decision that arrived without it. */
export interface PlanData {
  path: Encoded<"float32">;
  intermediate_plans: Encoded<"float32"> | null;
}

/** New rows of a series: one number per moment, control step or prediction. */
export interface SeriesData {
  name: string;
  title: string;
  unit: string;
  axis: "moment" | "step" | "prediction";
  meaning: string;
  values: Encoded<"float32">;
}

/** Moments, decisions and rows of series that are appended to an episode. */
export interface Part {
  /** Null if the part has no moments. */
  moments: MomentsData | null;
  decisions: DecisionData[];
  series: SeriesData[];
}

export interface EpisodeData {
  header: Header;
  parts: Part[];
}

/** Another run's recording of an episode, and what sentences call that run. */
export interface OtherEpisodeData extends EpisodeData {
  name: string;
  row: Row;
}

/** The content of an exported page. */
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

/** Returns the blocks of an array along its first axis. */
export function decodeBlocks(array: Encoded<"float32">): Float32Array[] {
  const all = decode(array);
  const size = array.shape.slice(1).reduce((product, n) => product * n, 1);
  return Array.from({ length: array.shape[0] }, (_, i) => all.subarray(i * size, (i + 1) * size));
}
