// Projects paths in the world into a camera's image.

/** Points closer to the camera than this along its axis, m, are cut off, since (u, v) would grow without bound. */
const NEAR_M = 0.01;

/** Traces the pieces of a path in front of the camera. `scale` is canvas pixels per image pixel. */
export function tracePath(
  context: CanvasRenderingContext2D,
  projection: readonly number[],
  points: Float32Array,
  scale: number,
): void {
  const project = (i: number) => {
    const [x, y, z] = [points[i], points[i + 1], points[i + 2]];
    return [0, 4, 8].map((r) => projection[r] * x + projection[r + 1] * y + projection[r + 2] * z + projection[r + 3]);
  };
  let isOpen = false;
  for (let i = 0; i + 3 < points.length; i += 3) {
    const start = project(i);
    const end = project(i + 3);
    const isVisible = Number.isFinite(start[2] + end[2]) && Math.max(start[2], end[2]) >= NEAR_M;
    if (isVisible) {
      const [fromU, fromV, fromW] = start[2] < NEAR_M ? cut(start, end) : start;
      const [toU, toV, toW] = end[2] < NEAR_M ? cut(end, start) : end;
      if (!isOpen) context.moveTo((scale * fromU) / fromW, (scale * fromV) / fromW);
      context.lineTo((scale * toU) / toW, (scale * toV) / toW);
    }
    isOpen = isVisible && end[2] >= NEAR_M;
  }
}

/** Returns the point of a segment at w = NEAR_M. Along it (w u, w v, w) is linear, while (u, v) is not. */
function cut(hidden: readonly number[], visible: readonly number[]): number[] {
  const share = (NEAR_M - hidden[2]) / (visible[2] - hidden[2]);
  return hidden.map((value, i) => value + share * (visible[i] - value));
}
