// Draws lines with a width in pixels in two draw calls: the visible parts, and faintly those that something hides.

import {
  DynamicDrawUsage,
  GLSL3,
  GreaterDepth,
  Group,
  InstancedBufferGeometry,
  InstancedInterleavedBuffer,
  InterleavedBufferAttribute,
  BufferAttribute,
  LessEqualDepth,
  Mesh,
  RawShaderMaterial,
  Vector2,
  type DepthModes,
} from "three";
import type { Line } from "./lines";
import { DOT_WIDER_PX, HALO_OPACITY, HALO_WIDER_PX, HALOS, type Colour } from "./overlay_style";
import { SHADOWLESS } from "./shadow";

const HIDDEN_OPACITY = 0.35;
const ORDER = 5;
// start, end, colour, width and whether its ends are round.
const STRIDE = 3 + 3 + 4 + 1 + 1;

const VERTEX_SHADER = `
precision highp float;
uniform mat4 projectionMatrix, viewMatrix;
uniform vec2 resolution;
uniform float scale;
in vec2 corner;
in vec3 start, end;
in vec4 colour;
in vec2 stroke;
out vec4 tint;
out vec4 place;
const float NEAR = 0.005;
void main() {
  vec4 a = projectionMatrix * viewMatrix * vec4(start, 1.0);
  vec4 b = projectionMatrix * viewMatrix * vec4(end, 1.0);
  if (a.w < NEAR && b.w < NEAR) { gl_Position = vec4(2.0, 2.0, 2.0, 1.0); return; }
  if (a.w < NEAR) a = mix(a, b, (NEAR - a.w) / (b.w - a.w));
  else if (b.w < NEAR) b = mix(b, a, (NEAR - b.w) / (a.w - b.w));
  vec2 from = a.xy / a.w * 0.5 * resolution, to = b.xy / b.w * 0.5 * resolution;
  float extent = length(to - from);
  vec2 along = extent > 1e-3 ? (to - from) / extent : vec2(1.0, 0.0);
  float radius = 0.5 * scale * stroke.x, reach = radius + 1.0;
  float overhang = stroke.y * reach;
  vec2 at = vec2(mix(-overhang, extent + overhang, corner.x), corner.y * reach);
  vec2 pixel = from + along * at.x + vec2(-along.y, along.x) * at.y;
  // With w = 1, distances to the line are linear on the screen rather than in space.
  vec4 nearest = mix(a, b, corner.x);
  gl_Position = vec4(pixel / (0.5 * resolution), nearest.z / nearest.w, 1.0);
  tint = colour;
  place = vec4(at, extent, radius);
}`;

const FRAGMENT_SHADER = `
precision highp float;
uniform float opacity;
in vec4 tint;
in vec4 place;
out vec4 pixel;
void main() {
  float beyond = max(max(-place.x, place.x - place.z), 0.0);
  float coverage = clamp(place.w + 0.5 - length(vec2(beyond, place.y)), 0.0, 1.0);
  if (coverage <= 0.0) discard;
  pixel = vec4(tint.rgb, tint.a * opacity * coverage);
}`;

export class Whiskers {
  readonly root = new Group();
  private geometry = makeGeometry(1024);
  private readonly meshes: Mesh<InstancedBufferGeometry, RawShaderMaterial>[];
  private readonly resolution = { value: new Vector2(1, 1) };
  private readonly scale = { value: 1 };

  constructor() {
    this.meshes = [this.makeMesh(GreaterDepth, HIDDEN_OPACITY), this.makeMesh(LessEqualDepth, 1)];
    this.root.add(...this.meshes);
  }

  /** Sets the size of the picture in px, and the factor on line widths. */
  setResolution(width: number, height: number, scale: number): void {
    this.resolution.value.set(width, height);
    this.scale.value = scale;
  }

  draw(lines: readonly Line[]): void {
    const strokes = new Strokes(this.geometry);
    for (const { style, points, colour, opacity } of lines) {
      if (!style.scenes) continue;
      const width = style.width_px;
      if (style.halo) strokes.addLine(points, HALOS[style.halo], width + HALO_WIDER_PX, HALO_OPACITY * opacity);
      strokes.addLine(points, colour, width, opacity);
      if (style.has_dots) strokes.addDots(points, colour, width + DOT_WIDER_PX, opacity);
    }
    if (strokes.count > strokes.capacity) {
      this.geometry.dispose();
      this.geometry = makeGeometry(2 * strokes.count);
      for (const mesh of this.meshes) mesh.geometry = this.geometry;
      this.draw(lines);
      return;
    }
    this.geometry.instanceCount = strokes.count;
    interleaved(this.geometry).needsUpdate = true;
  }

  private makeMesh(depthFunc: DepthModes, opacity: number) {
    const material = new RawShaderMaterial({
      glslVersion: GLSL3,
      vertexShader: VERTEX_SHADER,
      fragmentShader: FRAGMENT_SHADER,
      uniforms: { resolution: this.resolution, scale: this.scale, opacity: { value: opacity } },
      transparent: true,
      depthWrite: false,
      depthFunc,
    });
    const mesh = new Mesh(this.geometry, material);
    mesh.frustumCulled = false;
    mesh.renderOrder = ORDER;
    mesh.layers.set(SHADOWLESS);
    return mesh;
  }
}

/** Writes strokes into a geometry. Strokes beyond its capacity are only counted. */
class Strokes {
  count = 0;
  readonly capacity: number;
  private readonly values: Float32Array;

  constructor(geometry: InstancedBufferGeometry) {
    const buffer = interleaved(geometry);
    this.values = buffer.array as Float32Array;
    this.capacity = buffer.count;
  }

  /** Translucent strokes have no round ends, which would be darker where they overlap. */
  addLine(points: Float32Array, colour: Colour, width: number, opacity: number): void {
    for (let i = 0; i + 3 < points.length; i += 3) this.add(points, i, i + 3, colour, width, opacity, opacity >= 1);
  }

  addDots(points: Float32Array, colour: Colour, width: number, opacity: number): void {
    for (let i = 0; i < points.length; i += 3) this.add(points, i, i, colour, width, opacity, true);
  }

  private add(
    points: Float32Array,
    start: number,
    end: number,
    [red, green, blue]: Colour,
    width: number,
    opacity: number,
    isRound: boolean,
  ): void {
    if (Number.isNaN(points[start] + points[end])) return;
    if (this.count < this.capacity) {
      const { values } = this;
      const at = this.count * STRIDE;
      for (let axis = 0; axis < 3; axis++) {
        values[at + axis] = points[start + axis];
        values[at + 3 + axis] = points[end + axis];
      }
      values[at + 6] = red / 255;
      values[at + 7] = green / 255;
      values[at + 8] = blue / 255;
      values[at + 9] = opacity;
      values[at + 10] = width;
      values[at + 11] = Number(isRound);
    }
    this.count++;
  }
}

function makeGeometry(capacity: number): InstancedBufferGeometry {
  const buffer = new InstancedInterleavedBuffer(new Float32Array(capacity * STRIDE), STRIDE);
  buffer.setUsage(DynamicDrawUsage);
  const geometry = new InstancedBufferGeometry();
  geometry.setAttribute("corner", new BufferAttribute(new Float32Array([0, -1, 1, -1, 1, 1, 0, 1]), 2));
  geometry.setIndex([0, 1, 2, 0, 2, 3]);
  geometry.setAttribute("start", new InterleavedBufferAttribute(buffer, 3, 0));
  geometry.setAttribute("end", new InterleavedBufferAttribute(buffer, 3, 3));
  geometry.setAttribute("colour", new InterleavedBufferAttribute(buffer, 4, 6));
  geometry.setAttribute("stroke", new InterleavedBufferAttribute(buffer, 2, 10));
  return geometry;
}

function interleaved(geometry: InstancedBufferGeometry): InstancedInterleavedBuffer {
  return (geometry.getAttribute("start") as InterleavedBufferAttribute).data as InstancedInterleavedBuffer;
}
