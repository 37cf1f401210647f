// Plays an episode in real time, faster or slower.

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

  /** Changes the speed from the current step on. */
  changeSpeed(direction: 1 | -1, step: number): void {
    const index = SPEEDS.indexOf(this.speed) + direction;
    this.speed = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, index))];
    if (this.since) this.start(step);
  }

  /** Returns the step to show now. Playing ends at the last step. */
  stepAt(now: number, controlDtS: number, nSteps: number): number {
    const { time, step } = this.since!;
    const played = Math.floor((Math.max(0, now - time) / 1000 / controlDtS) * this.speed);
    if (step + played >= nSteps) this.stop();
    return Math.min(nSteps, step + played);
  }
}
