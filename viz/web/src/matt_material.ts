// Matt surfaces under a soft sky, a key light and a fill light. They are lit per vertex, which is faster without a GPU than
// three's materials, which are lit per pixel. Only the key light's shadow is computed per pixel.

import { FrontSide, GLSL3, RawShaderMaterial, Vector4, type IUniform, type Side } from "three";
import type { Colour } from "./overlay_style";

export const TO_KEY_LIGHT = [0.3, -0.51, 0.81] as const;

interface MattParameters {
  opacity?: number;
  /** One colour instead of the colours of the vertices. */
  paint?: Colour;
  colorWrite?: boolean;
  /** Uniforms of `Shadow`. Without them no shadow falls on the surface. */
  shadow?: Record<string, IUniform>;
  side?: Side;
}

const VERTEX_SHADER = `
precision highp float;
uniform mat4 modelMatrix, viewMatrix, projectionMatrix;
uniform vec4 paint;
in vec3 position, normal, color;
out vec3 shade;
#ifdef SHADOW
uniform mat4 toShadow;
out vec3 shadeInShadow, inShadowMap;
#endif
const vec3 KEY = vec3(${TO_KEY_LIGHT.join(", ")}), FILL = vec3(-0.68, 0.55, 0.48);
// Without this offset (m), a surface would cast striped shadows onto itself.
const float CLEARANCE = 0.0015;
void main() {
  vec3 n = normalize(mat3(modelMatrix) * normal);
  vec4 place = modelMatrix * vec4(position, 1.0);
  vec3 sky = mix(vec3(0.25, 0.24, 0.24), vec3(0.50, 0.51, 0.53), 0.5 + 0.5 * n.z);
  vec3 soft = sky + 0.12 * max(dot(n, FILL), 0.0);
  vec3 light = soft + 0.46 * max(dot(n, KEY), 0.0);
  // Light adds up linearly, while colours are given and shown as sRGB.
  vec3 surface = pow(mix(color, paint.rgb, paint.a), vec3(2.2));
  shade = pow(min(surface * light, 1.0), vec3(1.0 / 2.2));
#ifdef SHADOW
  shadeInShadow = pow(surface * soft, vec3(1.0 / 2.2));
  inShadowMap = (toShadow * vec4(place.xyz + CLEARANCE * n, 1.0)).xyz;
#endif
  gl_Position = projectionMatrix * viewMatrix * place;
}`;

const FRAGMENT_SHADER = `
precision highp float;
uniform float opacity;
in vec3 shade;
out vec4 pixel;
#ifdef SHADOW
uniform highp sampler2DShadow shadowMap;
in vec3 shadeInShadow, inShadowMap;
float lit() {
  if (any(greaterThan(abs(inShadowMap - 0.5), vec3(0.499)))) return 1.0;
  float step = 1.4 / float(textureSize(shadowMap, 0).x), sum = 0.0;
  for (int x = -1; x <= 1; x++)
    for (int y = -1; y <= 1; y++)
      sum += texture(shadowMap, inShadowMap + vec3(float(x) * step, float(y) * step, -0.0004));
  return sum / 9.0;
}
#endif
void main() {
#ifdef SHADOW
  pixel = vec4(mix(shadeInShadow, shade, lit()), opacity);
#else
  pixel = vec4(shade, opacity);
#endif
}`;

export function mattMaterial({ opacity = 1, paint, colorWrite = true, shadow, side = FrontSide }: MattParameters = {}) {
  const [red, green, blue] = paint ?? [0, 0, 0];
  return new RawShaderMaterial({
    glslVersion: GLSL3,
    vertexShader: VERTEX_SHADER,
    fragmentShader: FRAGMENT_SHADER,
    defines: shadow ? { SHADOW: "" } : {},
    uniforms: {
      opacity: { value: opacity },
      paint: { value: new Vector4(red / 255, green / 255, blue / 255, paint ? 1 : 0) },
      ...shadow,
    },
    transparent: opacity < 1,
    depthWrite: opacity === 1,
    colorWrite,
    side,
  });
}
