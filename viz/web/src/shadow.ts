// The shadow of the key light, which shows what stands on what.

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

/** The layer of objects that cast no shadow. */
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

  /** Sets the region in which shadows fall: a radius (m) around a place. */
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
    // Map -1..1 to the texture coordinates 0..1.
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
