// A live rollout: its events, and the commands that are sent to it.

import type { Episode } from "./episode";
import { readEvents } from "./event_stream";
import type { Header, Page, Part, Row } from "./format";
import { LiveBar } from "./live_bar";
import { PageError, type Server } from "./source";

export type LiveState = "paused" | "running" | "busy" | "closed";

export type LiveCommand =
  /** These apply to the shown episode, which can be continued if it is not over. */
  | { command: "run" | "pause" | "step" | "step_prediction" }
  | { command: "reset"; episode_index: number }
  | {
      command: "branch";
      key: string;
      /** Index of the decision that is made again. */
      prediction: number;
      seed: number;
      /** Null: the policy's default. */
      n_action_steps: number | null;
      /** Null: the instruction of the task. */
      instruction: string | null;
      blinded: string[];
    };

export interface Status {
  state: LiveState;
  key: string | null;
  message: string;
}

interface Listeners {
  /** Key of the shown episode. */
  shownKey: () => string | null;
  onCommand: () => void;
  onStatus: (status: Status) => void;
  /** Progress of the current work in words, or "". */
  onProgress: (message: string) => void;
  onEpisode: (header: Header, row: Row) => Promise<void>;
  onPart: (key: string, part: Part, index: number | undefined) => void;
  onRow: (row: Row) => void;
  onError: (error: unknown) => void;
  /** Called when no more events will follow. */
  onGone: (error: unknown) => void;
}

export class Live {
  private status: Status = { state: "paused", key: null, message: "" };
  private progress = "";
  private readonly left = new AbortController();
  private stream = new AbortController();
  /** Whether the run is recorded. Events of a live rollout must not be missed. */
  private readonly mayRest: boolean;
  private readonly liveBar = new LiveBar((command) => void this.send(command));
  readonly bar = this.liveBar.root;

  constructor(
    private readonly server: Server,
    page: Page,
    private readonly listeners: Listeners,
  ) {
    this.liveBar.load(page);
    this.mayRest = page.kind === "run";
    document.addEventListener("visibilitychange", () => this.restUnseen(), { signal: this.left.signal });
  }

  toggleBranch(): void {
    this.liveBar.toggleBranch();
  }

  get state(): LiveState {
    return this.status.state;
  }

  /** Key of the episode that is being rolled out. */
  get key(): string | null {
    return this.status.key;
  }

  async listen(): Promise<void> {
    this.stream = new AbortController();
    const signal = AbortSignal.any([this.left.signal, this.stream.signal]);
    this.restUnseen();
    try {
      const response = await this.server.request("/api/events", { signal });
      for await (const { event, data } of readEvents(response.body!)) await this.handle(event, data);
      throw new PageError(
        "The connection to whiskers is gone: it was stopped, or the tunnel to it closed. Reload the page to try again.",
      );
    } catch (error) {
      if (signal.aborted) return;
      this.status = { ...this.status, state: "closed", message: "" };
      this.listeners.onGone(error);
    }
  }

  /** Stops listening and removes the bar, because another run is shown. */
  leave(): void {
    this.left.abort();
    this.bar.remove();
  }

  async send(command: LiveCommand): Promise<void> {
    this.listeners.onCommand();
    const body = JSON.stringify({ key: this.listeners.shownKey(), ...command });
    try {
      const response = await this.server.request("/api/command", { method: "POST", body });
      const { error } = (await response.json()) as { error?: string };
      if (error) throw new PageError(error);
    } catch (error) {
      this.listeners.onError(error);
    }
  }

  draw(episode: Episode | null, step: number, isAtHead: boolean): void {
    this.liveBar.draw(this.status, this.progress, episode, step, isAtHead);
  }

  describe(): Record<string, unknown> {
    return { ...this.status };
  }

  /** Hidden tabs close their connection, since a browser has only six connections to a server for all of its tabs. */
  private restUnseen(): void {
    if (document.hidden && this.mayRest && this.status.state === "paused") this.stream.abort();
    else if (!document.hidden && this.stream.signal.aborted) void this.listen();
  }

  /** Handles events one after the other, since a part follows its episode. */
  private async handle(event: string, data: string): Promise<void> {
    const content = JSON.parse(data);
    if (event === "status") {
      this.status = content as Status;
      this.listeners.onStatus(this.status);
    } else if (event === "progress") {
      this.progress = content.message as string;
      this.listeners.onProgress(this.progress);
    } else if (event === "episode") await this.listeners.onEpisode(content.header as Header, content.row as Row);
    else if (event === "part") this.listeners.onPart(content.key, content.part as Part, content.index);
    else if (event === "row") this.listeners.onRow(content.row as Row);
  }
}
