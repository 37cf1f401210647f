// The shadow of the key light, so that one sees what stands on what.

import {
  DepthTexture,
  LessEqualCompare,
  LinearFilter,
  Matrix4,
  OrthographicCamera,
  Vector3,
  WebGLRenderTarget,
  type Scene,
  type WebGLRenderer,
} from "three";
import { mattMaterial, TO_KEY_LIGHT } from "./matt_material";

/** A layer of what casts none. */
export const SHADOWLESS = 1;
const SIZE_PX = 2048;
const CASTER = mattMaterial({ colorWrite: false });

export class Shadow {
  private readonly light = new OrthographicCamera();
  private readonly target = new WebGLRenderTarget(SIZE_PX, SIZE_PX);
  readonly uniforms = {
    shadowMap: { value: new DepthTexture(SIZE_PX, SIZE_PX) },
    toShadow: { value: new Matrix4() },
  };

  constructor() {
    const map = this.uniforms.shadowMap.value;
    map.compareFunction = LessEqualCompare;
    map.minFilter = map.magFilter = LinearFilter;
    this.target.depthTexture = map;
    this.light.up.set(0, 0, 1);
  }

  /** Where shadows fall: within a radius (m) around a place. */
  aim(center: Vector3, radius: number): void {
    const { light } = this;
    light.left = light.bottom = -radius;
    light.right = light.top = radius;
    light.near = 0;
    light.far = 6 * radius;
    light.position
      .set(...TO_KEY_LIGHT)
      .setLength(3 * radius)
      .add(center);
    light.lookAt(center);
    light.updateMatrixWorld();
    light.updateProjectionMatrix();
    // From -1..1 to 0..1, as a texture is read.
    this.uniforms.toShadow.value
      .makeScale(0.5, 0.5, 0.5)
      .setPosition(0.5, 0.5, 0.5)
      .multiply(light.projectionMatrix)
      .multiply(light.matrixWorldInverse);
  }

  cast(renderer: WebGLRenderer, scene: Scene): void {
    const { background } = scene;
    scene.background = null;
    scene.overrideMaterial = CASTER;
    renderer.setRenderTarget(this.target);
    renderer.render(scene, this.light);
    renderer.setRenderTarget(null);
    scene.overrideMaterial = null;
    scene.background = background;
  }
}
