// Draws frames on demand, only when something has changed.

const IDLE_MS = 500;

export class FrameLoop {
  /** Time from the first change to the drawn frame. */
  lastDrawMs: number | null = null;
  /** Whether nothing has changed for a while, and the picture is at its best quality. */
  isAtRest = false;
  private request = 0;
  private idleTimer = 0;
  private isDrawing = false;
  private changedAt = NaN;

  /**
   * @param draw draws everything, and returns whether another frame follows at once.
   * @param onIdle called when nothing has changed for a while.
   */
  constructor(
    private readonly draw: (now: number) => boolean,
    private readonly onIdle: () => void,
  ) {}

  /** Requests a frame. It includes all changes until it is drawn. */
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
