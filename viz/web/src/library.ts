// All known episodes, and those that have been loaded.

import { Episode } from "./episode";
import type { Header, Part, Row, SceneData } from "./format";
import type { OtherFuture } from "./lines";
import type { Source } from "./source";

/** Number of episodes that are kept. An episode with its images takes some MB. */
const MOST_KEPT = 24;

interface Loading {
  promise: Promise<Episode>;
  /** Parts that arrived as events before the episode. The episode may contain some of them already. */
  early: { part: Part; index: number | undefined }[];
}

export class Library {
  rows: Row[] = [];
  private readonly episodes = new Map<string, Episode>();
  private readonly loading = new Map<string, Loading>();
  private readonly scenes = new Map<string, Promise<SceneData>>();

  constructor(private readonly source: Source) {}

  row(key: string | null): Row | null {
    return this.rows.find((row) => row.key === key) ?? null;
  }

  /** Returns an episode if it has been loaded. */
  episode(key: string): Episode | null {
    return this.episodes.get(key) ?? null;
  }

  scene(task: string): Promise<SceneData> {
    const loaded = this.scenes.get(task) ?? this.source.scene(task);
    this.scenes.set(task, loaded);
    // An episode that failed to load is requested again.
    loaded.catch(() => this.scenes.delete(task));
    return loaded;
  }

  load(row: Row): Promise<Episode> {
    const known = this.episodes.get(row.key);
    if (known) return Promise.resolve(known);
    const { promise } = this.loading.get(row.key) ?? this.beginLoading(row);
    return promise;
  }

  /** Adds a live episode of which only the header is known yet. */
  async begin(header: Header, row: Row): Promise<void> {
    const { bodies } = await this.scene(header.scene);
    if (!this.episodes.has(row.key)) this.add(header, row, bodies.length);
  }

  /**
   * Appends a new part of a live episode.
   *
   * @param index index of the part in its episode.
   * @returns the episode if it has been loaded. Otherwise it gets the part when it is.
   */
  append(key: string, part: Part, index: number | undefined): Episode | null {
    const episode = this.episode(key);
    episode?.append(part, index);
    this.loading.get(key)?.early.push({ part, index });
    return episode;
  }

  update(changed: Row): Row | null {
    const row = this.row(changed.key);
    return row && Object.assign(row, changed);
  }

  /** Returns the branches of a row, and last the row that it branched off from. */
  related(row: Row): { row: Row; fromStep: number }[] {
    const found = this.rows.flatMap((other) =>
      other.branch?.of === row.key ? [{ row: other, fromStep: other.branch.at_step }] : [],
    );
    const trunk = row.branch && this.row(row.branch.of);
    if (row.branch && trunk) found.push({ row: trunk, fromStep: row.branch.at_step });
    return found;
  }

  /** Returns the loaded ones of these. */
  otherFutures(row: Row): OtherFuture[] {
    return this.related(row).flatMap(({ row: { key }, fromStep }) => {
      const episode = this.episode(key);
      return episode ? [{ episode, fromStep, name: null }] : [];
    });
  }

  private beginLoading(row: Row): Loading {
    const early: Loading["early"] = [];
    const loading = { early, promise: this.fetch(row, early).finally(() => this.loading.delete(row.key)) };
    this.loading.set(row.key, loading);
    return loading;
  }

  private async fetch(row: Row, early: Loading["early"]): Promise<Episode> {
    // A scene is named after its task.
    const [{ header, parts }, { bodies }] = await Promise.all([this.source.episode(row.key), this.scene(row.task)]);
    const episode = this.add(header, row, bodies.length);
    for (const part of parts) episode.append(part);
    for (const { part, index } of early) episode.append(part, index);
    this.forgetOldest(row);
    return episode;
  }

  private add(header: Header, row: Row, nBodies: number): Episode {
    if (!this.row(row.key)) this.rows.push(row);
    const kept = this.row(row.key)!;
    if (header.branch) kept.branch = header.branch;
    const episode = new Episode(header, kept, nBodies);
    this.episodes.set(row.key, episode);
    return episode;
  }

  private forgetOldest(shown: Row): void {
    for (const [key, { row }] of this.episodes) {
      if (this.episodes.size <= MOST_KEPT) return;
      // A live episode is kept, since it grows by events that are sent only once.
      if (row !== shown && !row.branch && row.outcome !== "running") this.episodes.delete(key);
    }
  }
}
