// The pane of the 3D picture with its legend and switches, or the reason why there is no picture.

import { element, setText } from "./dom";
import type { Episode } from "./episode";
import type { Header, SceneData } from "./format";
import type { Line, OtherFuture } from "./lines";
import { layerOf } from "./overlay_style";
import { makeSwatch } from "./swatch";
import { PRESETS, View3d, type Preset } from "./view3d";
import { findWebGl } from "./webgl";

const NO_WEBGL =
  "This browser has no WebGL, so the 3D scene is not drawn; images, graphs and timeline work all the same.";

export class ScenePane {
  readonly root = element("section", "scene");
  readonly layers = element("div", "layers");
  readonly cameraButtons = element("div", "camera-preset");
  /** Null until it is first needed, and without WebGL. */
  view: View3d | null = null;
  private readonly waiting = element("p", "waiting", "loading");
  private readonly whyEmpty = element("p", "no-webgl");
  private readonly otherName = element("span");
  private readonly otherKey = element("span", "legend-key", makeSwatch("others"), this.otherName);
  private readonly picture = element("div", "picture", this.waiting, this.whyEmpty);
  private isPrepared = false;
  private background = "";
  private shown = "";

  constructor(private readonly onChange: () => void) {
    this.otherKey.hidden = true;
    this.root.append(element("div", "scene-bar", this.layers, this.otherKey, this.cameraButtons), this.picture);
  }

  /** Starts WebGL, which takes a while, so that lists are drawn first. */
  prepare(): void {
    if (this.isPrepared) return;
    this.isPrepared = true;
    const webGl = findWebGl();
    if (webGl === "none") this.picture.append(element("p", "no-webgl", NO_WEBGL));
    else this.view = new View3d(this.picture, webGl === "software", this.onChange);
    this.view?.setBackground(this.background);
  }

  setBackground(colour: string): void {
    this.background = colour;
    this.view?.setBackground(colour);
  }

  /** Shows what the picture is waiting for. */
  sayWaiting(message: string): void {
    setText(this.waiting, message || "loading");
  }

  get preset(): Preset {
    return this.view?.preset ?? "free";
  }

  cyclePreset(): void {
    this.view?.usePreset(PRESETS[(PRESETS.indexOf(this.preset) + 1) % PRESETS.length]);
  }

  /** Forgets the scene, so that the next one is loaded even if it has the same name. */
  forget(): void {
    this.shown = "";
  }

  /** All episodes of a scene share a view, so that its orientation is kept. */
  load(header: Header, data: SceneData): void {
    this.prepare();
    if (this.shown === header.scene) return;
    this.shown = header.scene;
    setText(this.whyEmpty, data.why_empty ?? "");
    this.picture.toggleAttribute("data-empty", data.why_empty !== undefined);
    this.view?.setScene(data);
    this.view?.setHome(header.view.eye, header.view.target);
  }

  draw(episode: Episode, step: number, lines: readonly Line[], others: readonly OtherFuture[]): void {
    this.otherKey.hidden = !others.length;
    const other = others.at(-1);
    setText(this.otherName, other?.name ?? layerOf("others").label);
    const isOtherThere = other && step > other.fromStep && step < other.episode.nMoments;
    const otherPoses = isOtherThere ? other.episode.pose.row(step) : null;
    this.view?.draw(episode.pose.row(step), otherPoses, lines, episode.ee.row(step));
  }
}
