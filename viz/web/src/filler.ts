// Fetches the plans and images that a recorded episode arrived without, one after the other: those of the shown decision
// first, then those around it.

import type { Episode } from "./episode";
import { N_GHOSTS } from "./overlay_style";
import type { Source } from "./source";

/** Number of decisions after the current one whose images are prefetched; before it, half as many. */
const N_AHEAD = 2;

interface Wanted {
  what: "plan" | "images";
  index: number;
}

export class Filler {
  private episode: Episode | null = null;
  private step = 0;
  private isAsking = false;
  /** Plans and images of this episode that could not be fetched, which are not requested again. */
  private readonly refused = new Set<string>();

  /** @param onFilled called when there is more to draw. */
  constructor(
    private readonly source: Source,
    private readonly onFilled: () => void,
    private readonly onError: (error: unknown) => void,
  ) {}

  /** Notes which moment is shown. */
  lookAt(episode: Episode, step: number): void {
    if (episode !== this.episode) this.refused.clear();
    this.episode = episode;
    this.step = step;
    if (!this.isAsking) void this.fill();
  }

  private async fill(): Promise<void> {
    this.isAsking = true;
    for (let wanted = this.next(); wanted; wanted = this.next()) await this.ask(this.episode!, wanted);
    this.isAsking = false;
  }

  private async ask(episode: Episode, { what, index }: Wanted): Promise<void> {
    const { key } = episode.header;
    try {
      if (what === "plan") episode.addPlan(index, await this.source.plan(key, index));
      else episode.addImages(index, await this.source.images(key, index));
    } catch (error) {
      this.refused.add(what + index);
      if (episode === this.episode) this.onError(error);
    }
    this.onFilled();
  }

  /** Whether the plan or the images of the current decision at a step are still missing. */
  isWaitedFor(episode: Episode, step: number): boolean {
    const index = episode.decisionAt(step);
    return this.isMissing(episode, { what: "plan", index }) || this.isMissing(episode, { what: "images", index });
  }

  private isMissing({ decisions }: Episode, { what, index }: Wanted): boolean {
    if (!(index in decisions) || this.refused.has(what + index)) return false;
    return what === "plan" ? !decisions[index].paths.length : !decisions[index].cameras;
  }

  private next(): Wanted | null {
    const episode = this.episode!;
    const now = episode.decisionAt(this.step);
    const plans = (...indices: number[]): Wanted[] => indices.map((index) => ({ what: "plan", index }));
    const images = (...indices: number[]): Wanted[] => indices.map((index) => ({ what: "images", index }));
    const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1);
    const wanted = [
      ...plans(now),
      ...images(now),
      ...upTo(N_AHEAD).flatMap((i) => [...plans(now + i), ...images(now + i)]),
      ...plans(...upTo(N_GHOSTS).map((i) => now - i)),
      ...images(...upTo(N_AHEAD / 2).map((i) => now - i)),
      // Plans of all other decisions follow, forwards from here, so that they are there when they are shown.
      ...plans(...episode.decisions.map((_, i) => (now + i) % episode.decisions.length)),
    ];
    return wanted.find((each) => this.isMissing(episode, each)) ?? null;
  }
}
