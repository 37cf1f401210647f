// Returns the surface of a shape in its own frame, following MuJoCo's conventions.

import {
  BoxGeometry,
  CapsuleGeometry,
  CylinderGeometry,
  PlaneGeometry,
  SphereGeometry,
  type BufferGeometry,
} from "three";
import { creaseNormals } from "./creased_normals";
import { decode, type MeshData, type ShapeData } from "./format";

export interface ShapeSurface {
  positions: Float32Array;
  normals: Float32Array;
  index: ArrayLike<number>;
  /** sRGB bytes of every vertex, or null for the colour of the shape. */
  colours: Uint8Array | null;
}

/** Half the edge of the square that represents an infinite plane, m. */
const INFINITE_M = 12;

export function surfaceOfShape(shape: ShapeData, meshes: readonly ShapeSurface[]): ShapeSurface {
  return shape.mesh === null ? surfaceOfGeometry(primitive(shape)) : meshes[shape.mesh];
}

export function surfaceOfMesh(mesh: MeshData): ShapeSurface {
  const vertices = Float32Array.from(decode(mesh.vertices), (steps, i) => mesh.origin[i % 3] + mesh.step * steps);
  const { origin, normals, index } = creaseNormals(vertices, decode(mesh.faces));
  const colours = mesh.colours && decode(mesh.colours);
  return {
    positions: gather(vertices, origin, new Float32Array(3 * origin.length)),
    normals,
    index,
    colours: colours && gather(colours, origin, new Uint8Array(3 * origin.length)),
  };
}

/** Turns round shapes, which stand along y in three and along z in MuJoCo. */
function primitive({ kind, size: [x, y, z] }: ShapeData): BufferGeometry {
  switch (kind) {
    case "box":
      return new BoxGeometry(2 * x, 2 * y, 2 * z);
    case "sphere":
      return new SphereGeometry(x, 24, 16);
    case "ellipsoid":
      return new SphereGeometry(1, 24, 16).scale(x, y, z);
    case "cylinder":
      return new CylinderGeometry(x, x, 2 * y, 40).rotateX(Math.PI / 2);
    case "capsule":
      return new CapsuleGeometry(x, 2 * y, 8, 24).rotateX(Math.PI / 2);
    case "plane":
      return new PlaneGeometry(2 * (x || INFINITE_M), 2 * (y || INFINITE_M));
    case "mesh":
      throw new Error("a mesh shape without its mesh");
  }
}

function surfaceOfGeometry(geometry: BufferGeometry): ShapeSurface {
  return {
    positions: geometry.getAttribute("position").array as Float32Array,
    normals: geometry.getAttribute("normal").array as Float32Array,
    index: geometry.getIndex()!.array,
    colours: null,
  };
}

function gather<A extends Float32Array | Uint8Array>(from: A, vertices: Uint32Array, into: A): A {
  for (let i = 0; i < vertices.length; i++)
    for (let axis = 0; axis < 3; axis++) into[3 * i + axis] = from[3 * vertices[i] + axis];
  return into;
}
