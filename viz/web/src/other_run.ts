// Another run with which the shown one is compared: its recordings of the same episodes, which are drawn as other futures.

import { Episode } from "./episode";
import type { Row } from "./format";
import type { Library } from "./library";
import type { OtherFuture } from "./lines";
import { happened, outcomeInWords, stepText } from "./outcomes";
import type { Server } from "./source";

/** Number of episodes that are kept. */
const MOST_KEPT = 24;

export class OtherRun {
  /** What sentences call it. Until its first episode has arrived, this is its name in the list. */
  private name: string;
  private readonly episodes = new Map<string, Episode>();

  /**
   * @param run its name in the list.
   * @param server the server of the shown run.
   * @param library the episodes and scenes of the shown run.
   */
  constructor(
    readonly run: string,
    private readonly server: Server,
    private readonly library: Library,
  ) {
    this.name = run;
  }

  /** Loads the episode that has the task and index of a row of the shown run. */
  async load({ key, task }: Row): Promise<void> {
    if (this.episodes.has(key)) return;
    const [{ name, row, header, parts }, { bodies }] = await Promise.all([
      this.server.otherEpisode(this.run, key),
      this.library.scene(task),
    ]);
    this.name = name;
    const episode = new Episode(header, row, bodies.length);
    for (const part of parts) episode.append(part);
    this.episodes.set(key, episode);
    if (this.episodes.size > MOST_KEPT) this.episodes.delete(this.episodes.keys().next().value!);
  }

  /** Returns the episode as a future of the shown one, from whose beginning it leads on, if it has been loaded. */
  futures(key: string): OtherFuture[] {
    const episode = this.episodes.get(key);
    return episode ? [{ episode, fromStep: 0, name: this.name }] : [];
  }

  /** Returns how the episode ended. */
  describe(key: string): string {
    const row = this.episodes.get(key)?.row;
    if (!row) return this.name;
    const details = [happened(row), stepText(row)].filter(Boolean).join(", ");
    return `${this.name}: ${outcomeInWords(row.outcome)}${details ? ` (${details})` : ""}`;
  }
}
