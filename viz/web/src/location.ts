// The page's address says what is shown: run, episode, step and view. So a moment can be sent, and gone back to.

/** A part that is null is left to the page. */
export interface Place {
  /** Null: the list of runs, or the only run. */
  run: string | null;
  episode: string | null;
  step: number | null;
  /** As `View3d.viewName` has it. */
  view: string | null;
}

/** The address follows once nothing has changed for this long: browsers limit how often it may be set. */
const REST_MS = 250;

export function readPlace(hash: string): Place {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  const step = parts.get("step") ?? "";
  return {
    run: parts.get("run"),
    episode: parts.get("episode"),
    step: /^\d+$/.test(step) ? Number(step) : null,
    view: parts.get("view"),
  };
}

/** The end of an address, e.g. "#run=a&episode=pick_place/8&step=69"; "#" for the list of runs. */
export function hashOf(place: Partial<Place>): string {
  const parts = new URLSearchParams();
  for (const name of ["run", "episode", "step", "view"] as const) {
    const value = place[name];
    if (value !== null && value !== undefined) parts.set(name, String(value));
  }
  // These may stand in an address as they are, and read better.
  return `#${parts.toString().replaceAll("%2F", "/").replaceAll("%3A", ":").replaceAll("%2C", ",")}`;
}

export class Address {
  private timer = 0;
  private noted = "";
  /** The address as it was read or written last. */
  private known = location.hash;

  /** @param onGo a link was followed, or one went back or forward. */
  constructor(onGo: (place: Place) => void) {
    addEventListener("hashchange", () => {
      this.adopt();
      onGo(this.place);
    });
  }

  get place(): Place {
    return readPlace(location.hash);
  }

  /** One has gone on to another place: back leads to the one before. */
  push(place: Place): void {
    this.write(place, "pushState");
  }

  /** What is shown has changed a little: the address follows in its own time. */
  note(place: Place): void {
    const hash = hashOf(place);
    if (hash === this.noted) return;
    this.noted = hash;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      // A link that was just followed has set it already.
      if (location.hash === this.known) this.write(place, "replaceState");
    }, REST_MS);
  }

  private write(place: Place, how: "pushState" | "replaceState"): void {
    history[how](null, "", hashOf(place));
    this.adopt();
  }

  private adopt(): void {
    clearTimeout(this.timer);
    this.known = this.noted = location.hash;
  }
}
