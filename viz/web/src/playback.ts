// Playing an episode in real time, faster or slower.

const SPEEDS = [1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8];

export class Playback {
  speed = 1;
  private since: { time: number; step: number } | null = null;

  get isPlaying(): boolean {
    return this.since !== null;
  }

  start(step: number): void {
    this.since = { time: performance.now(), step };
  }

  stop(): void {
    this.since = null;
  }

  /** What was played so far was played at the old speed. */
  changeSpeed(direction: 1 | -1, step: number): void {
    const index = SPEEDS.indexOf(this.speed) + direction;
    this.speed = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, index))];
    if (this.since) this.start(step);
  }

  /** The step to be shown now; playing ends at the last one. */
  stepAt(now: number, controlDtS: number, nSteps: number): number {
    const { time, step } = this.since!;
    const played = Math.floor((Math.max(0, now - time) / 1000 / controlDtS) * this.speed);
    if (step + played >= nSteps) this.stop();
    return Math.min(nSteps, step + played);
  }
}
