// Polls for news while the page is visible.

const PAUSE_MS = 1500;

export class Follower {
  private timer = 0;
  private ask: (() => Promise<boolean>) | null = null;

  constructor(private readonly onError: (error: unknown) => void) {
    document.addEventListener("visibilitychange", () => this.schedule());
  }

  /** @param ask polls, and returns whether to continue. An error ends the polling as well. */
  start(ask: () => Promise<boolean>): void {
    this.ask = ask;
    this.schedule();
  }

  stop(): void {
    this.ask = null;
    clearTimeout(this.timer);
  }

  private schedule(): void {
    clearTimeout(this.timer);
    if (this.ask && !document.hidden) this.timer = setTimeout(() => void this.askOnce(this.ask!), PAUSE_MS);
  }

  private async askOnce(ask: () => Promise<boolean>): Promise<void> {
    try {
      if (!(await ask()) && this.ask === ask) this.stop();
    } catch (error) {
      if (this.ask !== ask) return;
      this.stop();
      this.onError(error);
    }
    if (this.ask === ask) this.schedule();
  }
}
