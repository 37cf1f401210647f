// The page's address contains run, episode, step and view, so that a moment can be shared and revisited.

/** The page chooses the parts that are null. */
export interface Place {
  /** Null for the list of runs, or for the only run. */
  run: string | null;
  /** Another run with which this one is compared, or null. Without an episode, the comparison itself is shown. */
  against: string | null;
  episode: string | null;
  step: number | null;
  /** The view, as written by `View3d.viewName`. */
  view: string | null;
}

/** The address is updated after this time without changes, since browsers limit how often it may be set. */
const REST_MS = 250;

export function readPlace(hash: string): Place {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  const step = parts.get("step") ?? "";
  return {
    run: parts.get("run"),
    against: parts.get("against"),
    episode: parts.get("episode"),
    step: /^\d+$/.test(step) ? Number(step) : null,
    view: parts.get("view"),
  };
}

/** Returns the end of an address, e.g. "#run=a&episode=pick_place/8&step=69"; "#" for the list of runs. */
export function hashOf(place: Partial<Place>): string {
  const parts = new URLSearchParams();
  for (const name of ["run", "against", "episode", "step", "view"] as const) {
    const value = place[name];
    if (value !== null && value !== undefined) parts.set(name, String(value));
  }
  // These characters need no escape in an address, and are more readable without.
  return `#${parts.toString().replaceAll("%2F", "/").replaceAll("%3A", ":").replaceAll("%2C", ",")}`;
}

export class Address {
  private timer = 0;
  private noted = "";
  /** The address that was read or written last. */
  private known = location.hash;

  /** @param onGo called when a link was followed, or on back and forward. */
  constructor(onGo: (place: Place) => void) {
    addEventListener("hashchange", () => {
      this.adopt();
      onGo(this.place);
    });
  }

  get place(): Place {
    return readPlace(location.hash);
  }

  /** Adds a place to the history, so that back leads to the previous one. */
  push(place: Place): void {
    this.write(place, "pushState");
  }

  /** Updates the address with a delay after a small change. */
  note(place: Place): void {
    const hash = hashOf(place);
    if (hash === this.noted) return;
    this.noted = hash;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      // A link that was just followed has already set the address.
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
