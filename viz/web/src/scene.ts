// The robot and its surroundings, and a translucent second robot that shows another future at the same step.

import { DoubleSide, Group, Mesh, type IUniform, type Material } from "three";
import { bodyGeometries, poseMatrix } from "./body_geometry";
import type { SceneData } from "./format";
import { mattMaterial } from "./matt_material";
import { styleOf } from "./overlay_style";
import { SHADOWLESS } from "./shadow";

/** Bodies whose poses in both futures differ by less than this (m, and quaternion) are drawn once. */
const SAME_POSE = 1e-4;
/** The second robot is drawn after the lines, which are visible through it. */
const GHOST_ORDER = 10;

export class SceneModel {
  readonly root = new Group();
  private readonly fine: Material;
  private readonly bodies: { body: number; mesh: Mesh; ghosts: Mesh[] }[];

  /** @param shadow uniforms of the shadow that falls onto opaque bodies. */
  constructor(data: SceneData, shadow: Record<string, IUniform>) {
    this.fine = mattMaterial({ shadow, side: DoubleSide });
    this.bodies = bodyGeometries(data).map(({ body, opacity, geometry }) => {
      const mesh = new Mesh(geometry, opacity < 1 ? mattMaterial({ opacity }) : FAST);
      // The first mesh writes only depth, so that the inside of the translucent robot stays hidden.
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

  /** Moves every body to its pose. `other` are the poses of another future at that step. */
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

  /** Draws shadows and hides cracks, which takes longer. */
  setFine(isFine: boolean): void {
    // Simplified meshes have cracks, which are invisible if their inner sides are drawn too.
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
