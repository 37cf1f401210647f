// The robot and what is around it, and a second, translucent robot where another future is at the same step.

import { DoubleSide, Group, Mesh, type IUniform, type Material } from "three";
import { bodyGeometries, poseMatrix } from "./body_geometry";
import type { SceneData } from "./format";
import { mattMaterial } from "./matt_material";
import { styleOf } from "./overlay_style";
import { SHADOWLESS } from "./shadow";

/** Bodies nearer than this (m, and in quaternion) in both futures are drawn once. */
const SAME_POSE = 1e-4;
/** After the lines: these shine through the second robot. */
const GHOST_ORDER = 10;

export class SceneModel {
  readonly root = new Group();
  private readonly fine: Material;
  private readonly bodies: { body: number; mesh: Mesh; ghosts: Mesh[] }[];

  /** @param shadow uniforms of what falls onto opaque bodies. */
  constructor(data: SceneData, shadow: Record<string, IUniform>) {
    this.fine = mattMaterial({ shadow, side: DoubleSide });
    this.bodies = bodyGeometries(data).map(({ body, opacity, geometry }) => {
      const mesh = new Mesh(geometry, opacity < 1 ? mattMaterial({ opacity }) : FAST);
      // Without the first, depth only, one would see into the ghost through its own skin.
      const ghosts = opacity < 1 ? [] : [new Mesh(geometry, GHOST_DEPTH), new Mesh(geometry, GHOST_SKIN)];
      ghosts.forEach((ghost, i) => {
        ghost.renderOrder = GHOST_ORDER + i;
        ghost.layers.set(SHADOWLESS);
      });
      for (const part of [mesh, ...ghosts]) part.matrixAutoUpdate = false;
      this.root.add(mesh, ...ghosts);
      return { body, mesh, ghosts };
    });
  }

  /** Put every body where it is; `other` are the poses of another future at that step. */
  pose(poses: Float32Array, other: Float32Array | null): void {
    for (const { body, mesh, ghosts } of this.bodies) {
      poseMatrix(poses, 7 * body, mesh.matrix);
      const isApart = other !== null && !isSamePose(poses, other, 7 * body);
      for (const ghost of ghosts) {
        ghost.visible = isApart;
        if (isApart) poseMatrix(other, 7 * body, ghost.matrix);
      }
    }
  }

  /** With shadows and without cracks, which takes longer. */
  setFine(isFine: boolean): void {
    // Light meshes have cracks; with their inner sides drawn too these do not show.
    const surface = isFine ? this.fine : FAST;
    for (const { mesh, ghosts } of this.bodies) if (ghosts.length) mesh.material = surface;
  }

  dispose(): void {
    for (const { mesh } of this.bodies) mesh.geometry.dispose();
  }
}

const FAST = mattMaterial();
const GHOST_DEPTH = mattMaterial({ colorWrite: false });
const GHOST_SKIN = mattMaterial({ opacity: 0.35, paint: styleOf("other").colour });

function isSamePose(a: Float32Array, b: Float32Array, begin: number): boolean {
  for (let i = begin; i < begin + 7; i++) if (Math.abs(a[i] - b[i]) > SAME_POSE) return false;
  return true;
}
