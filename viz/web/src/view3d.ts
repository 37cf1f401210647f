// The 3D picture. It is drawn only on request.

import { Color, PerspectiveCamera, Scene, Vector3, WebGLRenderer } from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
import type { SceneData } from "./format";
import type { Line } from "./lines";
import { SceneModel } from "./scene";
import { Shadow, SHADOWLESS } from "./shadow";
import { Whiskers } from "./whiskers";

export const PRESETS = ["free", "front", "side", "top", "follow"] as const;
export type Preset = (typeof PRESETS)[number];

function isPreset(name: string): name is Preset {
  return PRESETS.some((preset) => preset === name);
}

/** Directions from the target to the eye. Both robots look along +x, and z is up. */
const DIRECTIONS: Record<Exclude<Preset, "free" | "follow">, readonly [number, number, number]> = {
  front: [1, 0, 0.22],
  side: [0, -1, 0.22],
  top: [-0.001, 0, 1],
};
const MAX_PIXEL_RATIO = 2;

export class View3d {
  preset: Preset = "free";
  private readonly renderer: WebGLRenderer;
  private readonly scene = new Scene();
  private readonly camera = new PerspectiveCamera(42, 1, 0.01, 60);
  private readonly orbit: OrbitControls;
  private readonly whiskers = new Whiskers();
  private readonly shadow = new Shadow();
  private readonly followed = new Vector3(NaN, NaN, NaN);
  private readonly home = { eye: new Vector3(1, -1, 1), target: new Vector3() };
  private readonly free = { eye: new Vector3(), target: new Vector3() };
  /** Whether the picture has shadows and smooth edges. Without a GPU it has them only when nothing moves. */
  private isFine = false;
  private model: SceneModel | null = null;

  /**
   * @param isSoftware whether the browser draws without a GPU.
   * @param onChange called when the picture must be drawn again.
   */
  constructor(
    private readonly container: HTMLElement,
    private readonly isSoftware: boolean,
    onChange: () => void,
  ) {
    this.renderer = new WebGLRenderer({ antialias: !this.isSoftware, preserveDrawingBuffer: true });
    container.prepend(this.renderer.domElement);
    this.camera.up.set(0, 0, 1);
    this.camera.layers.enable(SHADOWLESS);
    this.orbit = new OrbitControls(this.camera, this.renderer.domElement);
    this.orbit.addEventListener("change", onChange);
    this.orbit.addEventListener("start", () => {
      // A preset that is turned by hand becomes the free view. The following view can be turned.
      if (this.preset !== "follow") this.preset = "free";
      onChange();
    });
    this.scene.add(this.whiskers.root);
    new ResizeObserver(() => {
      this.resize();
      onChange();
    }).observe(container);
    this.resize();
  }

  setScene(data: SceneData): void {
    if (this.model) {
      this.scene.remove(this.model.root);
      this.model.dispose();
    }
    this.model = new SceneModel(data, this.shadow.uniforms);
    this.scene.add(this.model.root);
    this.setFine(!this.isSoftware);
  }

  setHome(eye: number[], target: number[]): void {
    this.home.eye.fromArray(eye);
    this.home.target.fromArray(target);
    this.free.eye.copy(this.home.eye);
    this.free.target.copy(this.home.target);
    this.shadow.aim(this.home.target, 1.2 * this.home.eye.distanceTo(this.home.target));
    this.lookFrom(this.preset);
  }

  setBackground(colour: string): void {
    this.scene.background = new Color(colour);
  }

  usePreset(preset: Preset): void {
    if (this.preset === "free") {
      this.free.eye.copy(this.camera.position);
      this.free.target.copy(this.orbit.target);
    }
    this.preset = preset;
    this.lookFrom(preset);
  }

  /** The view as `useView` takes it: the preset, and the orientation of the free view. */
  get viewName(): string {
    const { position: eye } = this.camera;
    const { target } = this.orbit;
    if (this.preset !== "free") return this.preset;
    if (eye.distanceTo(this.home.eye) + target.distanceTo(this.home.target) < 1e-3) return "free";
    return `free:${[...eye, ...target].map((value) => value.toFixed(3)).join(",")}`;
  }

  /** Sets the view. An unknown name is ignored. */
  useView(name: string): void {
    const [preset, text = ""] = name.split(":");
    const numbers = text.split(",").map(Number);
    if (!isPreset(preset)) return;
    this.preset = preset;
    if (preset === "free") {
      const isTurned = numbers.length === 6 && numbers.every(Number.isFinite);
      this.free.eye.fromArray(isTurned ? numbers : this.home.eye.toArray());
      this.free.target.fromArray(isTurned ? numbers.slice(3) : this.home.target.toArray());
    }
    this.lookFrom(preset);
  }

  /**
   * @param poses poses of all bodies; `otherPoses` those in another future.
   * @param tool the position that the view "follow" follows.
   */
  draw(poses: Float32Array, otherPoses: Float32Array | null, lines: readonly Line[], tool: Float32Array): void {
    this.model?.pose(poses, otherPoses);
    this.whiskers.draw(lines);
    if (this.preset === "follow") this.follow(tool);
    if (this.isSoftware && this.isFine) this.setFine(false);
    this.render();
  }

  /** Draws the same picture at the best quality. */
  refine(): void {
    if (!this.isSoftware || this.isFine || !this.model) return;
    this.setFine(true);
    this.render();
  }

  /** Waits until the picture is drawn by reading a pixel; `finish` does not wait. */
  finish(): void {
    const gl = this.renderer.getContext();
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
  }

  private lookFrom(preset: Preset): void {
    this.followed.setScalar(NaN);
    if (preset === "free") this.look(this.free.eye, this.free.target);
    else if (preset === "follow") this.look(this.home.eye, this.home.target);
    else {
      const distance = this.home.eye.distanceTo(this.home.target);
      const direction = new Vector3(...DIRECTIONS[preset]).setLength(distance);
      this.look(direction.add(this.home.target), this.home.target);
    }
  }

  private render(): void {
    if (this.isFine) this.shadow.cast(this.renderer, this.scene);
    this.renderer.render(this.scene, this.camera);
  }

  private setFine(isFine: boolean): void {
    this.isFine = isFine;
    this.model?.setFine(isFine);
    this.resize();
  }

  private look(eye: Vector3, target: Vector3): void {
    this.camera.position.copy(eye);
    this.orbit.target.copy(target);
    this.orbit.update();
  }

  private follow(tool: Float32Array): void {
    const last = Number.isNaN(this.followed.x) ? this.orbit.target.clone() : this.followed.clone();
    this.followed.fromArray(tool);
    const moved = this.followed.clone().sub(last);
    if (moved.lengthSq() === 0) return;
    this.camera.position.add(moved);
    this.orbit.target.add(moved);
    this.orbit.update();
  }

  private resize(): void {
    const width = Math.max(1, this.container.clientWidth);
    const height = Math.max(1, this.container.clientHeight);
    const ratio = this.isSoftware ? (this.isFine ? 2 : 1) : Math.min(devicePixelRatio, MAX_PIXEL_RATIO);
    this.renderer.setPixelRatio(ratio);
    this.renderer.setSize(width, height);
    this.whiskers.setResolution(width * ratio, height * ratio, ratio);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
  }
}
