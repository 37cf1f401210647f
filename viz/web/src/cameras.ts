// The camera images of the current decision, with the plans drawn in.

import { element, setText } from "./dom";
import type { CameraImage, Episode } from "./episode";
import type { Header } from "./format";
import { linesAt, type Choice, type Line, type OtherFuture } from "./lines";
import { HALO_OPACITY, HALO_WIDER_PX, HALOS, imageScale, isInImage, type Colour } from "./overlay_style";
import { tracePath } from "./projection";

/** Images smaller than this are shown with sharp pixels. */
const CRISP_PX = 128;

export class CameraPane {
  readonly root = element("section", "cameras");
  private panes: Pane[] = [];

  /** @param onImage called when an image has arrived, so that the page is drawn again. */
  constructor(private readonly onImage: () => void) {
    new ResizeObserver(onImage).observe(this.root);
  }

  draw(episode: Episode, step: number, layers: Choice, others: readonly OtherFuture[]): void {
    const { header, decisions } = episode;
    const index = episode.decisionAt(step);
    const decision = decisions[index];
    this.show(decision ? header.cameras : []);
    if (!decision) return;
    const lines = linesAt(episode, step, layers, others, true);
    const label = header.cameras_seen ? `as seen at step ${decision.step}` : "not seen by the policy";
    const wait = `rendering image ${index + 1} of ${decisions.length}`;
    this.panes.forEach((pane) => {
      const camera = decision.cameras?.find(({ name }) => name === pane.name) ?? null;
      pane.draw(camera, lines, label, wait);
      if (camera && !camera.image.complete) camera.image.addEventListener("load", this.onImage, { once: true });
    });
  }

  private show(cameras: Header["cameras"]): void {
    const names = cameras.map(({ name }) => name).join("\n");
    if (names === this.panes.map(({ name }) => name).join("\n")) return;
    this.panes = cameras.map((camera) => new Pane(camera));
    this.root.replaceChildren(...this.panes.map(({ root }) => root));
  }
}

class Pane {
  readonly root = element("figure");
  readonly name: string;
  private readonly canvas = element("canvas");
  private readonly waiting = element("div", "waiting");
  private readonly when = element("span", "when");

  constructor({ name, width, height }: Header["cameras"][number]) {
    this.name = this.root.dataset.camera = name;
    this.canvas.style.aspectRatio = `${width} / ${height}`;
    const picture = element("div", "seen", this.canvas, this.waiting);
    this.root.append(picture, element("figcaption", "", element("b", "", name), this.when));
  }

  /** @param wait text that is shown until the image is there. */
  draw(camera: CameraImage | null, lines: readonly Line[], label: string, wait: string): void {
    setText(this.when, label);
    setText(this.waiting, camera ? "" : wait);
    this.waiting.hidden = camera !== null;
    if (camera) this.drawImage(camera, lines);
    else this.canvas.width = this.canvas.clientWidth; // empty
  }

  private drawImage({ image, width, height, projection }: CameraImage, lines: readonly Line[]): void {
    const ratio = devicePixelRatio;
    const shownWidth = this.root.clientWidth;
    this.canvas.width = Math.round(shownWidth * ratio);
    this.canvas.height = Math.round((shownWidth * ratio * height) / width);
    const context = this.canvas.getContext("2d")!;
    context.imageSmoothingEnabled = Math.max(width, height) >= CRISP_PX;
    context.imageSmoothingQuality = "high";
    if (image.complete) context.drawImage(image, 0, 0, this.canvas.width, this.canvas.height);
    if (!projection) return;
    context.lineJoin = context.lineCap = "round";
    const scale = imageScale(shownWidth) * ratio;
    for (const { style, points, colour, opacity } of lines) {
      if (!isInImage(style, shownWidth)) continue;
      context.beginPath();
      tracePath(context, projection, points, this.canvas.width / width);
      if (style.halo)
        strokePath(context, HALOS[style.halo], HALO_OPACITY * opacity, (style.width_px + HALO_WIDER_PX) * scale);
      strokePath(context, colour, opacity, style.width_px * scale);
    }
  }
}

function strokePath(context: CanvasRenderingContext2D, colour: Colour, opacity: number, width: number): void {
  context.strokeStyle = `rgb(${colour.join(" ")} / ${opacity})`;
  context.lineWidth = width;
  context.stroke();
}
