// Normals that are smooth on round surfaces and sharp at edges: a corner gets the mean normal of the faces around its
// vertex whose normals are within the crease angle of its own face's normal.

const CREASE_COS = Math.cos((32 * Math.PI) / 180);
// Corners of a vertex are merged if their normals are closer than this.
const SAME_COS = 0.9995;

export interface Surface {
  /** Index of the given vertex, for every vertex of this surface. */
  origin: Uint32Array;
  normals: Float32Array;
  index: Uint32Array;
}

export function creaseNormals(vertices: Float32Array, faces: ArrayLike<number>): Surface {
  const nCorners = faces.length;
  const faceNormal = computeFaceNormals(vertices, faces);
  const { first, corners } = cornersByVertex(vertices.length / 3, faces);

  const origin = new Uint32Array(nCorners);
  const normals = new Float32Array(3 * nCorners);
  const index = new Uint32Array(nCorners);
  let n = 0;
  for (let vertex = 0; vertex + 1 < first.length; vertex++) {
    const begin = n;
    for (let i = first[vertex]; i < first[vertex + 1]; i++) {
      const own = 4 * Math.floor(corners[i] / 3);
      let x = 0,
        y = 0,
        z = 0;
      for (let k = first[vertex]; k < first[vertex + 1]; k++) {
        const face = 4 * Math.floor(corners[k] / 3);
        const cos =
          faceNormal[own] * faceNormal[face] +
          faceNormal[own + 1] * faceNormal[face + 1] +
          faceNormal[own + 2] * faceNormal[face + 2];
        if (cos < CREASE_COS && k !== i) continue;
        const area = faceNormal[face + 3];
        x += area * faceNormal[face];
        y += area * faceNormal[face + 1];
        z += area * faceNormal[face + 2];
      }
      const length = Math.hypot(x, y, z) || 1;
      x /= length;
      y /= length;
      z /= length;
      let same = begin;
      while (same < n && x * normals[3 * same] + y * normals[3 * same + 1] + z * normals[3 * same + 2] < SAME_COS)
        same++;
      if (same === n) {
        origin[n] = vertex;
        normals.set([x, y, z], 3 * n);
        n++;
      }
      index[corners[i]] = same;
    }
  }
  return { origin: origin.subarray(0, n), normals: normals.subarray(0, 3 * n), index };
}

/** Returns the unit normal and twice the area of every face. */
function computeFaceNormals(v: Float32Array, faces: ArrayLike<number>): Float32Array {
  const result = new Float32Array((4 * faces.length) / 3);
  for (let i = 0; i < faces.length; i += 3) {
    const a = 3 * faces[i],
      b = 3 * faces[i + 1],
      c = 3 * faces[i + 2];
    const abX = v[b] - v[a],
      abY = v[b + 1] - v[a + 1],
      abZ = v[b + 2] - v[a + 2];
    const acX = v[c] - v[a],
      acY = v[c + 1] - v[a + 1],
      acZ = v[c + 2] - v[a + 2];
    const x = abY * acZ - abZ * acY,
      y = abZ * acX - abX * acZ,
      z = abX * acY - abY * acX;
    const area = Math.hypot(x, y, z) || 1e-30;
    result.set([x / area, y / area, z / area, area], (4 * i) / 3);
  }
  return result;
}

/** The corners (places in `faces`) of vertex i are `corners[first[i]] .. corners[first[i + 1] - 1]`. */
function cornersByVertex(nVertices: number, faces: ArrayLike<number>): { first: Uint32Array; corners: Uint32Array } {
  const first = new Uint32Array(nVertices + 1);
  for (let i = 0; i < faces.length; i++) first[faces[i] + 1]++;
  for (let i = 0; i < nVertices; i++) first[i + 1] += first[i];
  const corners = new Uint32Array(faces.length);
  const next = first.slice();
  for (let i = 0; i < faces.length; i++) corners[next[faces[i]]++] = i;
  return { first, corners };
}
