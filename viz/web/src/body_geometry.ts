// Merges all shapes of a body into one geometry with vertex colours: one draw call per body, and one more for each
// opacity below 1.

import { BufferAttribute, BufferGeometry, Matrix4, Quaternion, Vector3 } from "three";
import type { SceneData, ShapeData } from "./format";
import { surfaceOfMesh, surfaceOfShape, type ShapeSurface } from "./shapes";

export interface BodyGeometry {
  body: number;
  opacity: number;
  geometry: BufferGeometry;
}

export function bodyGeometries(scene: SceneData): BodyGeometry[] {
  const meshes = scene.meshes.map(surfaceOfMesh);
  const groups = Map.groupBy(scene.shapes, ({ body, rgba }) => `${body} ${rgba[3]}`);
  return [...groups.values()].map((shapes) => ({
    body: shapes[0].body,
    opacity: shapes[0].rgba[3],
    geometry: merge(shapes, meshes),
  }));
}

function merge(shapes: readonly ShapeData[], meshes: readonly ShapeSurface[]): BufferGeometry {
  const surfaces = shapes.map((shape) => surfaceOfShape(shape, meshes));
  const nValues = surfaces.reduce((sum, { positions }) => sum + positions.length, 0);
  const positions = new Float32Array(nValues);
  const normals = new Float32Array(nValues);
  const colours = new Uint8Array(nValues);
  const index = new Uint32Array(surfaces.reduce((sum, surface) => sum + surface.index.length, 0));
  let value = 0;
  let corner = 0;
  shapes.forEach(({ pose, rgba }, i) => {
    const surface = surfaces[i];
    const place = poseMatrix(pose, 0, new Matrix4());
    const end = value + surface.positions.length;
    for (let k = 0; k < surface.index.length; k++) index[corner++] = value / 3 + surface.index[k];
    positions.set(surface.positions, value);
    normals.set(surface.normals, value);
    if (surface.colours) colours.set(surface.colours, value);
    else for (let k = value; k < end; k++) colours[k] = Math.round(255 * rgba[k % 3]);
    new BufferAttribute(positions.subarray(value, end), 3).applyMatrix4(place);
    new BufferAttribute(normals.subarray(value, end), 3).transformDirection(place);
    value = end;
  });
  return new BufferGeometry()
    .setAttribute("position", new BufferAttribute(positions, 3))
    .setAttribute("normal", new BufferAttribute(normals, 3))
    .setAttribute("color", new BufferAttribute(colours, 3, true))
    .setIndex(new BufferAttribute(index, 1));
}

const position = new Vector3();
const rotation = new Quaternion();
const NO_SCALE = new Vector3(1, 1, 1);

/** Converts a position and a quaternion wxyz, as in MuJoCo, to a matrix. */
export function poseMatrix(pose: ArrayLike<number>, begin: number, into: Matrix4): Matrix4 {
  position.set(pose[begin], pose[begin + 1], pose[begin + 2]);
  rotation.set(pose[begin + 4], pose[begin + 5], pose[begin + 6], pose[begin + 3]);
  return into.compose(position, rotation, NO_SCALE);
}
