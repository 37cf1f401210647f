// The source of the data: the page itself (an export) or the server that sent the page.

import type { Compared } from "./comparison";
import {
  bytesOfBase64,
  FORMAT_VERSION,
  type CameraData,
  type EpisodeData,
  type Inlined,
  type NewRows,
  type OtherEpisodeData,
  type Page,
  type PlanData,
  type SceneData,
} from "./format";

export interface Source {
  page(): Promise<Page>;
  scene(task: string): Promise<SceneData>;
  episode(key: string): Promise<EpisodeData>;
  /** Returns the plan of a decision that arrived without it. */
  plan(key: string, prediction: number): Promise<PlanData>;
  /** Returns camera → image of a decision that arrived without its images. */
  images(key: string, prediction: number): Promise<Record<string, CameraData>>;
}

/** An error whose message is shown to the user instead of the picture. */
export class PageError extends Error {}

export async function openSource(): Promise<Source> {
  const packed = document.getElementById("inlined")?.textContent?.trim();
  return packed ? new InlinedSource(await unpack(packed)) : new Server();
}

export function checkVersion(page: Page): Page {
  if (page.version > FORMAT_VERSION)
    throw new PageError(
      `This data has format version ${page.version}; this page reads up to ${FORMAT_VERSION}. Open it with a newer whiskers.`,
    );
  return page;
}

async function unpack(packed: string): Promise<Inlined> {
  try {
    const bytes = new Blob([bytesOfBase64(packed)]).stream();
    return (await new Response(bytes.pipeThrough(new DecompressionStream("gzip"))).json()) as Inlined;
  } catch (cause) {
    throw new PageError("The data in this file cannot be read: the file is truncated or was changed.", { cause });
  }
}

class InlinedSource implements Source {
  constructor(private readonly inlined: Inlined) {}

  async page(): Promise<Page> {
    return checkVersion(this.inlined.page);
  }

  async scene(task: string): Promise<SceneData> {
    return found(this.inlined.scenes[task], `the scene of ${task}`);
  }

  async episode(key: string): Promise<EpisodeData> {
    return found(this.inlined.episodes[key], `episode ${key}`);
  }

  async plan(key: string, prediction: number): Promise<PlanData> {
    return found<PlanData>(undefined, `the plan of decision ${prediction} of ${key}`);
  }

  async images(key: string, prediction: number): Promise<Record<string, CameraData>> {
    return found<Record<string, CameraData>>(undefined, `the images of decision ${prediction} of ${key}`);
  }
}

function found<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new PageError(`This file does not contain ${what}.`);
  return value;
}

/** Serves recorded runs and live ones; every request carries the token of the page's address. */
export class Server implements Source {
  private readonly token = new URLSearchParams(location.search).get("token") ?? "";

  /** @param run the name of the run, if the server has several. */
  constructor(private readonly run: string | null = null) {}

  /** Returns the list of runs as JSON. */
  async runs(): Promise<string> {
    return (await this.request("/api/runs")).text();
  }

  reportUrl(run: string): string {
    return `/report?${new URLSearchParams({ run, token: this.token })}`;
  }

  /** Compares the run with another one. */
  compare(against: string): Promise<Compared> {
    return this.getJson(`/api/compare?against=${encodeURIComponent(against)}`);
  }

  /** Returns another run's recording of an episode. */
  otherEpisode(against: string, key: string): Promise<OtherEpisodeData> {
    return this.getJson(`/api/other_episode?${new URLSearchParams({ against, key })}`);
  }

  async page(): Promise<Page> {
    return checkVersion(await this.getJson<Page>("/api/page"));
  }

  /** Returns the rows after the first `nKnown`. */
  rows(nKnown: number): Promise<NewRows> {
    return this.getJson(`/api/rows?after=${nKnown}`);
  }

  scene(task: string): Promise<SceneData> {
    return this.getJson(`/api/scene?task=${encodeURIComponent(task)}`);
  }

  episode(key: string): Promise<EpisodeData> {
    return this.getJson(`/api/episode?key=${encodeURIComponent(key)}`);
  }

  plan(key: string, prediction: number): Promise<PlanData> {
    return this.getJson(`/api/plan?key=${encodeURIComponent(key)}&prediction=${prediction}`);
  }

  images(key: string, prediction: number): Promise<Record<string, CameraData>> {
    return this.getJson(`/api/images?key=${encodeURIComponent(key)}&prediction=${prediction}`);
  }

  async request(path: string, init: RequestInit = {}): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(this.withRun(path), { ...init, headers: { "X-Whisker-Token": this.token } });
    } catch (cause) {
      throw new PageError("The server has stopped. Start whiskers again and open its new address.", {
        cause,
      });
    }
    if (!response.ok) throw new PageError(await refusal(response));
    return response;
  }

  private withRun(path: string): string {
    if (this.run === null) return path;
    return `${path}${path.includes("?") ? "&" : "?"}run=${encodeURIComponent(this.run)}`;
  }

  private async getJson<T>(path: string): Promise<T> {
    const response = await this.request(path);
    try {
      return (await response.json()) as T;
    } catch (cause) {
      throw new PageError(
        "The server stopped during its answer. Start whiskers again and open its new address.",
        {
          cause,
        },
      );
    }
  }
}

/** Returns the reason of a refused request, which the server sends as {"error": "..."}. */
async function refusal(response: Response): Promise<string> {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text) as { error?: string };
    if (error) return error;
  } catch {
    // The answer is no JSON, so it is not from whiskers.
  }
  if (response.status === 401 || response.status === 403)
    return "The server does not know this page's token. Open the address that whiskers printed when it was started.";
  return `The server answered ${response.status} ${response.statusText}.`;
}
