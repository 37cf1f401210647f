// The images that the decision in force was made from, with the lines drawn into them.

import { element, setText } from "./dom";
import type { CameraImage, Episode } from "./episode";
import { linesAt, type Choice, type Line, type OtherFuture } from "./lines";
import { tracePath } from "./projection";

/** Smaller images are shown pixel by pixel. */
const CRISP_PX = 128;
/** Line widths are those of a picture this wide, css px. */
const REFERENCE_PX = 300;

export class CameraPane {
  readonly root = element("section", "cameras");
  private panes: Pane[] = [];

  /** @param onImage an image has arrived: draw again. */
  constructor(private readonly onImage: () => void) {
    new ResizeObserver(onImage).observe(this.root);
  }

  draw(episode: Episode, step: number, layers: Choice, others: readonly OtherFuture[]): void {
    const decision = episode.decisions[episode.decisionAt(step)];
    const cameras = decision?.cameras ?? [];
    this.show(cameras);
    if (!decision) return;
    const lines = linesAt(episode, step, { ...layers, ghosts: false }, others, true);
    const label = episode.header.cameras_seen ? `as seen at step ${decision.step}` : "not seen by the policy";
    cameras.forEach((camera, i) => {
      this.panes[i].draw(camera, lines, label);
      if (!camera.image.complete) camera.image.addEventListener("load", this.onImage, { once: true });
    });
  }

  private show(cameras: readonly CameraImage[]): void {
    const names = cameras.map(({ name }) => name).join("\n");
    if (names === this.panes.map(({ name }) => name).join("\n")) return;
    this.panes = cameras.map(({ name }) => new Pane(name));
    this.root.replaceChildren(...this.panes.map(({ root }) => root));
  }
}

class Pane {
  readonly root = element("figure");
  private readonly canvas = element("canvas");
  private readonly when = element("span", "when");

  constructor(readonly name: string) {
    this.root.dataset.camera = name;
    this.root.append(this.canvas, element("figcaption", "", element("b", "", name), this.when));
  }

  draw({ image, width, height, projection }: CameraImage, lines: readonly Line[], label: string): void {
    setText(this.when, label);
    const ratio = devicePixelRatio;
    const shownWidth = this.root.clientWidth;
    this.canvas.style.aspectRatio = `${width} / ${height}`;
    this.canvas.width = Math.round(shownWidth * ratio);
    this.canvas.height = Math.round((shownWidth * ratio * height) / width);
    const context = this.canvas.getContext("2d")!;
    context.imageSmoothingEnabled = Math.max(width, height) >= CRISP_PX;
    context.imageSmoothingQuality = "high";
    if (image.complete) context.drawImage(image, 0, 0, this.canvas.width, this.canvas.height);
    context.lineJoin = context.lineCap = "round";
    const stroke = Math.sqrt(shownWidth / REFERENCE_PX) * ratio * 0.8;
    for (const line of lines) {
      context.beginPath();
      tracePath(context, projection, line.points, this.canvas.width / width);
      if (line.halo) strokePath(context, `rgb(${line.halo.join(" ")} / 0.75)`, (line.width + 1.8) * stroke);
      strokePath(context, `rgb(${line.colour.join(" ")} / ${line.opacity})`, line.width * stroke);
    }
  }
}

function strokePath(context: CanvasRenderingContext2D, style: string, width: number): void {
  context.strokeStyle = style;
  context.lineWidth = width;
  context.stroke();
}
