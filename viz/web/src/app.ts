// The application: it holds the state of the page, draws everything, and reacts to commands.

import { CameraPane } from "./cameras";
import { ComparisonPage, type Compared } from "./comparison";
import { Controls } from "./controls";
import { element, setText } from "./dom";
import { whyNothingToShow, type Episode } from "./episode";
import { EpisodeList } from "./episode_list";
import { Follower } from "./follower";
import type { Header, Page, Row } from "./format";
import { Filler } from "./filler";
import { FrameLoop } from "./frame_loop";
import { GraphPane } from "./graphs";
import { HeaderBar } from "./header";
import { makeHelp } from "./help";
import { Library } from "./library";
import { linesAt, type Choice, type Layers, type OtherFuture } from "./lines";
import { Live } from "./live";
import { Address, hashOf, type Place } from "./location";
import { Notices } from "./notices";
import { OtherRun } from "./other_run";
import { Playback } from "./playback";
import { TRAILS } from "./overlay_style";
import { ScenePane } from "./scene_pane";
import { failedAt } from "./outcomes";
import { RunList } from "./run_list";
import { openSource, PageError, Server, type Source } from "./source";
import { giveColoursToStyles } from "./swatch";
import { applyTheme, onSystemTheme, systemTheme, type Theme } from "./theme";
import { Timeline } from "./timeline";

/** The page is too narrow for the list beside the picture. The style sheet has the same width. */
const isNarrow = matchMedia("(max-width: 860px)");

export class App {
  readonly layers: Layers = { plan: true, taken: true, ghosts: true, alternatives: true, intermediate_plans: false };
  readonly scene = new ScenePane(() => this.frames.invalidate());
  private page: Page | null = null;
  private library: Library | null = null;
  private live: Live | null = null;
  private filler: Filler | null = null;
  private episode: Episode | null = null;
  /** The episode has grown or changed since the last frame. */
  private isGrown = false;
  /** The episode that was requested last. Answers to earlier requests are ignored. */
  private wantedKey: string | null = null;
  private step = 0;
  private theme: Theme = systemTheme();
  /** Index into `TRAILS`. */
  private trailIndex = 0;
  private nGhostsDrawn = 0;
  private firstFrameMs: number | null = null;
  /** Time from opening the page until the list of runs, or of episodes, was drawn. */
  private firstListMs: number | null = null;
  /** Number of navigations so far. Answers that belong to an earlier one are ignored. */
  private nVisits = 0;
  private readonly address = new Address((place) => void this.go(place));
  private readonly follower = new Follower((error) => this.fail(error));
  /** Null if the server, or the file, has a single run. */
  private readonly runs: RunList | null = null;
  private readonly comparison = new ComparisonPage(() => this.toggleTheme());
  /** The run with which the shown one is compared. */
  private other: OtherRun | null = null;

  private readonly frames = new FrameLoop(
    (now) => this.frame(now),
    () => this.scene.view?.refine(),
  );
  private readonly playback = new Playback();
  private readonly notices = new Notices();
  private readonly header = new HeaderBar();
  private readonly list = new EpisodeList(
    (key) => {
      this.address.push(this.placeOf(key));
      void this.select(key);
    },
    () => this.frames.invalidate(),
    (key) => hashOf(this.placeOf(key)),
  );
  private readonly cameras = new CameraPane(() => this.frames.invalidate());
  private readonly graphs = new GraphPane((step) => this.seek(step));
  private readonly timeline = new Timeline((step) => this.seek(step));
  private readonly help = makeHelp(() => this.toggleHelp());
  private readonly speedText = element("span", "speed");
  private readonly controls: Controls;
  /** Timings of a step include the drawing of the picture. */
  private readonly isMeasured = new URLSearchParams(location.search).has("measure");

  constructor(private readonly root: HTMLElement) {
    const transport = element("div", "transport");
    const speed = element("div", "speeds", this.speedText);
    root.append(
      this.header.root,
      this.notices.message,
      this.list.root,
      this.scene.root,
      element("aside", "", this.cameras.root, this.graphs.root),
      element("footer", "", element("div", "bar", transport, speed), this.timeline.root),
      this.help,
      this.notices.toast,
    );
    if (root.dataset.serves === "runs") {
      const server = new Server();
      this.runs = new RunList(
        () => server.runs(),
        (run) => server.reportUrl(run),
        (run, against) => new Server(run).compare(against),
        () => this.toggleTheme(),
      );
      root.append(this.runs.root, this.comparison.root);
    }
    this.controls = new Controls(this, {
      transport,
      speed,
      layers: this.scene.layers,
      camera: this.scene.cameraButtons,
      list: this.list.buttons,
      episodes: this.list.buttons,
      graphs: this.graphs.buttons,
      page: this.header.buttons,
    });
    giveColoursToStyles();
    onSystemTheme((theme) => this.useTheme(theme));
    this.useTheme(this.theme);
    root.dataset.has = "nothing";
    root.dataset.list = isNarrow.matches ? "closed" : "open";
    isNarrow.addEventListener("change", () => (root.dataset.list = isNarrow.matches ? "closed" : "open"));
    window.__ready = false;
    window.__state = () => this.describe();
  }

  async open(): Promise<void> {
    try {
      if (!this.runs) {
        const source = await openSource();
        this.openRun(source, await source.page());
      }
      await this.go(this.address.place);
    } catch (error) {
      this.fail(error);
    }
  }

  /** Whether the list of runs is shown. */
  get isInRuns(): boolean {
    return this.root.dataset.page === "runs";
  }

  /** Whether a run is shown, and neither the list of runs nor a comparison. */
  get isInRun(): boolean {
    return this.root.dataset.page === "run";
  }

  /** Shows the place that an address names. */
  private async go(place: Place): Promise<void> {
    const visit = ++this.nVisits;
    const { run, against } = place;
    try {
      if (this.runs && run === null) return await this.showRuns();
      if (this.runs && against !== null && place.episode === null) {
        const compared = await new Server(run).compare(against);
        if (visit === this.nVisits) this.showComparison(compared);
        return;
      }
      if (this.runs && run !== this.page?.run) {
        this.leaveRun();
        const source = new Server(run);
        const page = await source.page();
        if (visit !== this.nVisits) return;
        this.openRun(source, page);
      } else if (run !== null && run !== this.page!.run)
        throw new PageError(`The link is for the run ${run}, but this is ${this.page!.run}.`);
      this.compareWith(against);
      await this.goInRun(place);
    } catch (error) {
      if (visit !== this.nVisits) return;
      if (this.runs && !this.page) await this.showRuns().catch(() => {});
      this.fail(error);
    }
  }

  private async showRuns(): Promise<void> {
    this.leaveRun();
    this.root.dataset.page = "runs";
    document.title = "whiskers: runs";
    const runs = this.runs!;
    const refresh = async () => {
      await runs.refresh();
      return true;
    };
    await refresh();
    this.follower.start(refresh);
    this.notePaint();
  }

  private showComparison(compared: Compared): void {
    this.leaveRun();
    this.root.dataset.page = "comparison";
    document.title = `whiskers: ${compared.first.name} and ${compared.second.name}`;
    this.comparison.show(compared);
    this.notePaint();
  }

  /** Draws the other run's episodes into those of the shown run; null: none. */
  private compareWith(against: string | null): void {
    if (against === (this.other?.run ?? null)) return;
    if (against !== null && !this.runs)
      throw new PageError("The link compares two runs, but only one is open here. Open the folder of both with whiskers.");
    this.other = against === null ? null : new OtherRun(against, new Server(this.page!.run), this.library!);
    this.isGrown = true;
    // Addresses of episodes in the list name the other run.
    this.list.load(this.library!.rows);
    if (this.episode) this.loadRelated(this.episode);
    this.frames.invalidate();
  }

  private leaveRun(): void {
    this.follower.stop();
    this.live?.leave();
    this.live = this.filler = null;
    this.playback.stop();
    this.notices.show(null);
    this.page = this.library = this.episode = this.wantedKey = this.other = null;
    this.root.dataset.has = "nothing";
    this.scene.forget();
  }

  private openRun(source: Source, page: Page): void {
    this.page = page;
    this.library = new Library(source);
    this.library.rows = page.episodes;
    this.layers.intermediate_plans = page.show_intermediate;
    this.root.dataset.kind = page.kind;
    this.root.dataset.page = "run";
    const hasReport = page.has_report === true && source instanceof Server;
    this.header.loadPage(page, hasReport ? source.reportUrl(page.run) : null);
    this.list.open(page.episodes, page.task_envs);
    this.list.setProgress(page.n_rows ?? 0, page.n_missing ?? 0);
    this.notePaint();
    if (source instanceof Server) this.startLive(source);
    if (page.n_missing && source instanceof Server) this.follower.start(() => this.askForRows(source, page));
  }

  private async goInRun(place: Place): Promise<void> {
    const key = place.episode ?? this.page!.key;
    if (key === null) {
      if (this.page!.kind !== "live") this.notices.show("No episode of this run has ended yet. Episodes appear here as they end.");
    } else if (!this.library!.row(key)) {
      this.wantedKey = this.episode = null;
      this.root.dataset.has = "nothing";
      this.notices.show(`The run ${this.page!.run} has no episode ${key}${this.page!.n_missing ? " yet" : ""}.`);
      this.frames.invalidate();
    } else if (key === this.episode?.header.key) this.showPlace(place);
    else await this.select(key, place);
  }

  /** @returns whether more rows may follow. */
  private async askForRows(server: Server, page: Page): Promise<boolean> {
    const { rows, n_rows, n_missing } = await server.rows(page.n_rows!);
    if (this.page !== page) return false;
    Object.assign(page, { n_rows, n_missing });
    if (!rows.length) return n_missing > 0;
    const library = this.library!;
    library.rows.push(...rows);
    this.list.load(library.rows);
    this.list.setProgress(n_rows, n_missing);
    // The episode of the address, or the first episode of the run, may have arrived.
    page.key ??= rows[0].key;
    const { place } = this.address;
    if (!this.wantedKey && library.row(place.episode ?? page.key)) await this.goInRun(place);
    return n_missing > 0;
  }

  /** Restores the step and the view of a place, where it has them. */
  private showPlace({ step, view }: Partial<Place>): void {
    if (view) this.scene.view?.useView(view);
    if (typeof step === "number") this.seek(step);
    this.frames.invalidate();
  }

  private placeOf(key: string): Place {
    return { run: this.page?.run ?? null, against: this.other?.run ?? null, episode: key, step: null, view: null };
  }

  private notePaint(): void {
    requestAnimationFrame(() =>
      requestAnimationFrame(() => {
        this.firstListMs ??= performance.now();
        if (!this.isInRun) window.__ready = true;
        else this.scene.prepare();
      }),
    );
  }

  get isPlaying(): boolean {
    return this.playback.isPlaying || this.isRunningLive;
  }

  get isHelpOpen(): boolean {
    return !this.help.hidden;
  }

  get isListOpen(): boolean {
    return this.root.dataset.list === "open";
  }

  /** Shows a moment. Steps beyond the ends are clipped. */
  seek(step: number): void {
    this.playback.stop();
    this.show(step);
  }

  stepBy(nSteps: number): void {
    const live = nSteps > 0 ? this.liveAtHead : null;
    if (live) void live.send({ command: "step" });
    else this.seek(this.step + nSteps);
  }

  stepPrediction(direction: 1 | -1): void {
    const { episode, step } = this;
    if (!episode) return;
    const live = direction > 0 ? this.liveAtHead : null;
    const index = episode.decisionAt(step);
    const begin = episode.decisions[index]?.step ?? 0;
    if (live) void live.send({ command: "step_prediction" });
    else if (direction > 0) this.seek(episode.decisions[index + 1]?.step ?? Infinity);
    else this.seek(step > begin ? begin : (episode.decisions[index - 1]?.step ?? 0));
  }

  /** Goes to the step at which the episode failed. */
  seekFailure(): void {
    if (!this.episode) return;
    const step = failedAt(this.episode.row);
    if (step !== null) this.seek(step);
    else this.notices.say(`This episode ${this.episode.isRunning ? "is still running" : "succeeded"}, so there is no failure to show.`);
  }

  togglePlaying(): void {
    const { episode, liveAtHead } = this;
    if (!episode) return;
    if (this.playback.isPlaying) this.playback.stop();
    else if (liveAtHead) void liveAtHead.send({ command: this.isRunningLive ? "pause" : "run" });
    else this.playback.start(this.step < episode.nSteps ? this.step : 0);
    this.frames.invalidate();
  }

  changeSpeed(direction: 1 | -1): void {
    this.playback.changeSpeed(direction, this.step);
    this.frames.invalidate();
  }

  toggleLayer(layer: keyof Layers): void {
    this.layers[layer] = !this.layers[layer];
    const decisions = (this.episode?.decisions ?? []).filter(({ paths }) => paths.length);
    if (layer === "alternatives" && this.layers.alternatives && !decisions.some(({ paths }) => paths.length > 1))
      this.notices.say("Only one plan was sampled at each decision.");
    if (layer === "intermediate_plans" && this.layers.intermediate_plans && !decisions.some(({ intermediate_plans }) => intermediate_plans.length))
      this.notices.say("Intermediate plans were not recorded.");
    this.frames.invalidate();
  }

  get trail(): number {
    return TRAILS[this.trailIndex];
  }

  /** Selects the next longer trail of the path taken, and the shortest after the longest. */
  cycleTrail(): void {
    this.trailIndex = (this.trailIndex + 1) % TRAILS.length;
    this.layers.taken = true;
    this.frames.invalidate();
  }

  cycleCamera(): void {
    if (this.scene.view) this.scene.cyclePreset();
    else this.notices.say("The 3D scene needs WebGL.");
    this.frames.invalidate();
  }

  zoomGraphs(direction: 1 | -1): void {
    this.graphs.zoom(direction);
  }

  /** Shows or hides the list, which lies beside the picture, or over it on a narrow page. */
  toggleList(): void {
    this.root.dataset.list = this.isListOpen ? "closed" : "open";
    this.frames.invalidate();
  }

  search(): void {
    if (this.isInRuns) {
      this.runs!.focusSearch();
      return;
    }
    this.root.dataset.list = "open";
    this.list.focusSearch();
    this.frames.invalidate();
  }

  stepEpisode(direction: 1 | -1): void {
    const { keys } = this.list;
    const next = keys[keys.indexOf(this.wantedKey ?? "") + direction];
    if (next !== undefined) void this.select(next);
    else if (keys.length === 1) this.notices.say("There is only this episode here.");
    else this.notices.say(direction > 0 ? "This is the last episode." : "This is the first episode.");
  }

  /** Opens or closes the form for a branch. */
  toggleBranch(): void {
    if (this.live) this.live.toggleBranch();
    else this.notices.say("An exported file has no policy for a branch. Open the run itself with whiskers.");
    this.frames.invalidate();
  }

  toggleTheme(): void {
    this.useTheme(this.theme === "light" ? "dark" : "light");
  }

  toggleHelp(): void {
    this.help.hidden = !this.help.hidden;
    this.frames.invalidate();
  }

  private useTheme(theme: Theme): void {
    this.theme = theme;
    this.scene.setBackground(applyTheme(theme));
    this.frames.invalidate();
  }

  /** @param place step and view in the episode, if known. */
  private async select(key: string, place: Partial<Place> = {}): Promise<void> {
    const library = this.library!;
    const row = library.row(key);
    if (!row) return;
    this.wantedKey = key;
    this.list.select(key);
    // On a narrow page, the list would cover the picture.
    if (isNarrow.matches) this.root.dataset.list = "closed";
    this.playback.stop();
    const nothing = library.episode(key) ? null : whyNothingToShow(row);
    if (nothing) {
      this.showNothing(row);
      this.notices.show(nothing);
      return;
    }
    this.root.toggleAttribute("data-loading", !library.episode(key));
    try {
      const episode = await library.load(row);
      const scene = await library.scene(episode.header.scene);
      // Without waiting for the images, the first picture would be drawn twice.
      await Promise.allSettled(
        episode.decisions.slice(0, 1).flatMap(({ cameras }) => cameras?.map(({ image }) => image.decode()) ?? []),
      );
      if (this.wantedKey !== key || this.library !== library) return;
      this.scene.load(episode.header, scene);
      this.showEpisode(episode);
      this.showPlace(place);
    } catch (error) {
      if (this.wantedKey !== key || this.library !== library) return;
      this.showNothing(row);
      this.fail(error);
    }
  }

  private showEpisode(episode: Episode): void {
    this.episode = episode;
    this.root.removeAttribute("data-loading");
    this.isGrown = true;
    this.root.dataset.has = "episode";
    this.header.loadRow(episode.row, episode.header.instruction);
    this.notices.show(whyNothingToShow(episode.row));
    this.show(episode.isRunning ? Infinity : (failedAt(episode.row) ?? 0));
    this.loadRelated(episode);
  }

  private showNothing(row: Row): void {
    this.episode = null;
    this.root.removeAttribute("data-loading");
    this.root.dataset.has = "nothing";
    this.header.loadRow(row, "");
    this.frames.invalidate();
  }

  /** Loads other futures in the background. The episode does not wait for them. */
  private loadRelated(episode: Episode): void {
    const library = this.library!;
    const loading = this.isCompared(episode)
      ? [this.other!.load(episode.row)]
      : library.related(episode.row).map(({ row }) => library.load(row));
    for (const each of loading)
      each.then(
        () => {
          this.isGrown = true;
          this.frames.invalidate();
        },
        (error) => {
          if (this.episode === episode) this.fail(error);
        },
      );
  }

  /** Whether the other run is drawn into an episode. It has none of the branches of this run. */
  private isCompared({ row }: Episode): boolean {
    return this.other !== null && !row.branch;
  }

  private othersOf(episode: Episode): OtherFuture[] {
    const { row } = episode;
    return this.isCompared(episode) ? this.other!.futures(row.key) : this.library!.otherFutures(row);
  }

  private show(step: number): void {
    if (this.episode) this.step = Math.min(this.episode.nSteps, Math.max(0, step));
    this.frames.invalidate();
  }

  /** @returns whether the next frame is to follow at once. */
  private frame(now: number): boolean {
    const { episode, playback } = this;
    if (episode && playback.isPlaying) this.step = playback.stepAt(now, episode.header.control_dt_s, episode.nSteps);
    this.controls.draw();
    setText(this.speedText, playback.speed < 1 ? `1/${1 / playback.speed}×` : `${playback.speed}×`);
    this.live?.draw(episode, this.step, this.liveAtHead !== null);
    if (episode?.nMoments) this.drawEpisode(episode);
    const key = this.wantedKey ?? "";
    this.header.showOther(this.other?.describe(key) ?? null, { ...this.placeOf(key), step: this.step });
    this.noteAddress();
    if (this.isMeasured) this.scene.view?.finish();
    if (episode?.nMoments || this.notices.error) {
      window.__ready = true;
      this.firstFrameMs ??= performance.now();
    }
    return playback.isPlaying;
  }

  private noteAddress(): void {
    const isLoading = this.root.hasAttribute("data-loading");
    if (!this.page || !this.wantedKey || isLoading || this.playback.isPlaying) return;
    // Until the next episode is shown, the step belongs to the last one.
    if (this.episode && this.episode.header.key !== this.wantedKey) return;
    const step = this.episode ? this.step : null;
    this.address.note({ ...this.placeOf(this.wantedKey), step, view: this.scene.view?.viewName ?? null });
  }

  private drawEpisode(episode: Episode): void {
    const { step } = this;
    const layers: Choice = { ...this.layers, trail: this.trail };
    const others = this.othersOf(episode);
    if (this.isGrown) {
      this.isGrown = false;
      this.graphs.load(episode, others);
      this.timeline.load(episode);
    }
    const lines = linesAt(episode, step, layers, others);
    this.nGhostsDrawn = lines.filter(({ style }) => style.kind === "ghost").length;
    this.scene.draw(episode, step, lines, others);
    this.cameras.draw(episode, step, layers, others);
    this.graphs.draw(step);
    this.timeline.draw(episode, step);
    this.header.draw(episode, step);
    this.filler?.lookAt(episode, step);
  }

  /** Whether the shown episode is running. */
  private get isRunningLive(): boolean {
    const { liveAtHead } = this;
    return liveAtHead?.state === "running" && liveAtHead.key === this.episode?.header.key;
  }

  /** The running rollout, if its newest moment is shown. The keys then control the rollout. */
  private get liveAtHead(): Live | null {
    const { episode, live } = this;
    const isAtHead =
      live &&
      live.state !== "closed" &&
      episode?.isRunning &&
      this.step === episode.nSteps;
    return isAtHead ? live : null;
  }

  /** Listens to events of the server, and fetches plans and images that an episode lacks. */
  private startLive(server: Server): void {
    const page = this.page!;
    this.filler = new Filler(
      server,
      () => this.frames.invalidate(),
      (error) => this.fail(error),
    );
    this.live = new Live(server, page, {
      shownKey: () => this.episode?.header.key ?? null,
      // Messages about the previous episode no longer apply.
      onCommand: () => this.notices.show(null),
      onStatus: ({ state, message }) => {
        if (message && state !== "closed") this.notices.show(message);
        this.frames.invalidate();
      },
      onProgress: (message) => {
        this.scene.sayWaiting(message);
        this.frames.invalidate();
      },
      onEpisode: (header, row) => this.beginEpisode(header, row),
      onPart: (key, part, index) => {
        const wasAtEnd = this.step === this.episode?.nSteps;
        const grown = this.library!.append(key, part, index);
        // A growing other future appears in the graphs, too.
        if (grown) this.isGrown = true;
        if (grown && grown === this.episode && wasAtEnd && !this.playback.isPlaying) this.show(Infinity);
        this.frames.invalidate();
      },
      onRow: (changed) => {
        const row = this.library!.update(changed);
        this.list.load(this.library!.rows);
        if (row && row === this.episode?.row) {
          this.isGrown = true;
          this.header.loadRow(row, this.episode.header.instruction);
          this.notices.show(whyNothingToShow(row));
        }
        this.frames.invalidate();
      },
      onError: (error) => this.fail(error),
      // Recorded data can be requested again once the connection is back.
      onGone: (error) => page.kind === "live" && this.fail(error),
    });
    this.root.insertBefore(this.live.bar, this.notices.message);
    // The bar is visible as long as its form is open.
    this.live.bar.addEventListener("toggle", () => this.frames.invalidate(), true);
    void this.live.listen();
  }

  private async beginEpisode(header: Header, row: Row): Promise<void> {
    await this.library!.begin(header, row);
    this.list.load(this.library!.rows);
    await this.select(row.key);
  }

  private fail(error: unknown): void {
    this.notices.fail(error);
    this.frames.invalidate();
  }

  private describe(): Record<string, unknown> {
    const { episode, step } = this;
    return {
      kind: this.page?.kind ?? null,
      page: this.root.dataset.page,
      run: this.page?.run ?? null,
      runs: this.runs?.names ?? [],
      first_list_ms: this.firstListMs,
      shape: this.list.shape,
      key: episode?.header.key ?? this.wantedKey,
      step,
      loading: this.root.hasAttribute("data-loading"),
      filling: (episode && this.filler?.isWaitedFor(episode, step)) ?? false,
      n_steps: episode?.nSteps ?? 0,
      prediction: episode?.decisionAt(step) ?? -1,
      playing: this.isPlaying,
      speed: this.playback.speed,
      ...this.layers,
      trail: this.trail || "all",
      camera: this.scene.preset,
      theme: this.theme,
      help: this.isHelpOpen,
      filter: this.list.filter,
      list: this.isListOpen,
      graph_steps: [this.graphs.span.begin, this.graphs.span.end],
      hidden_channels: this.graphs.hiddenNames,
      episodes: this.list.keys,
      error: this.notices.error,
      toast: this.notices.said,
      webgl: this.scene.view !== null,
      first_frame_ms: this.firstFrameMs,
      at_rest: this.frames.isAtRest,
      last_draw_ms: this.frames.lastDrawMs,
      n_ghosts_drawn: this.nGhostsDrawn,
      others: (episode ? this.othersOf(episode) : []).map(({ episode: { ee, row }, name }) => ({
        name,
        key: row.key,
        ee: step < ee.length ? [...ee.row(step)] : null,
      })),
      ...(this.live && { live: { ...this.live.describe(), at_head: this.liveAtHead !== null } }),
    };
  }
}

declare global {
  interface Window {
    /** Whether the first frame of an episode is drawn, or an error is shown. */
    __ready: boolean;
    __state: () => Record<string, unknown>;
  }
}
