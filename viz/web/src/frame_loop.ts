// Frames on demand: none is drawn unless something has changed.

const IDLE_MS = 500;

export class FrameLoop {
  /** From the first change to the drawn frame. */
  lastDrawMs: number | null = null;
  /** Nothing has changed for a while, and the picture is as good as it gets. */
  isAtRest = false;
  private request = 0;
  private idleTimer = 0;
  private isDrawing = false;
  private changedAt = NaN;

  /**
   * @param draw draws everything; true: there is more to come at once.
   * @param onIdle nothing has changed for a while.
   */
  constructor(
    private readonly draw: (now: number) => boolean,
    private readonly onIdle: () => void,
  ) {}

  /** A frame will be drawn soon; what changes until then is in it too. */
  invalidate(): void {
    if (this.isDrawing) return;
    this.isAtRest = false;
    if (Number.isNaN(this.changedAt)) this.changedAt = performance.now();
    this.request ||= requestAnimationFrame((now) => this.frame(now));
  }

  private frame(now: number): void {
    this.request = 0;
    this.isDrawing = true;
    const goesOn = this.draw(now);
    this.isDrawing = false;
    this.lastDrawMs = performance.now() - this.changedAt;
    this.changedAt = NaN;
    clearTimeout(this.idleTimer);
    if (goesOn) this.invalidate();
    else this.idleTimer = setTimeout(() => requestAnimationFrame(() => this.rest()), IDLE_MS);
  }

  private rest(): void {
    if (this.request) return;
    this.onIdle();
    this.isAtRest = true;
  }
}
