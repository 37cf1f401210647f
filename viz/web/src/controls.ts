// The table of all commands, from which keys, buttons and the help are made.

import type { App } from "./app";
import { element, svg } from "./dom";
import type { Layers } from "./lines";
import { layerOf } from "./overlay_style";
import { giveSwatch } from "./swatch";

type Place = "transport" | "speed" | "layers" | "camera" | "list" | "episodes" | "graphs" | "page";

interface Command {
  name: string;
  hint: string;
  /** The key, as named by `keyOf`. */
  key: string;
  place: Place;
  /** Outline in a square of 16 px. A button without one shows its text. */
  icon?: string;
  text?: (app: App) => string;
  /** For a switch: whether it is on. */
  isOn?: (app: App) => boolean;
  /** For a switch of lines: the lines. */
  layer?: keyof Layers;
  run: (app: App) => void;
}

const ICONS = {
  play: "M4 2.5v11l9.5-5.5z",
  pause: "M3.5 2.5h3v11h-3zM9.5 2.5h3v11h-3z",
};

export const COMMANDS: readonly Command[] = [
  {
    name: "first",
    hint: "to the beginning",
    key: "Home",
    place: "transport",
    icon: "M2.5 3h2v10h-2zM13.5 3v10l-8-5z",
    run: (app) => app.seek(0),
  },
  {
    name: "previous-prediction",
    hint: "back by one prediction",
    key: "Shift+ArrowLeft",
    place: "transport",
    icon: "M8 3v10l-6.5-5zM14.5 3v10L8 8z",
    run: (app) => app.stepPrediction(-1),
  },
  {
    name: "previous-step",
    hint: "back by one step",
    key: "ArrowLeft",
    place: "transport",
    icon: "M11.5 3v10l-8-5z",
    run: (app) => app.stepBy(-1),
  },
  {
    name: "play",
    hint: "pause or resume",
    key: "Space",
    place: "transport",
    icon: ICONS.play,
    isOn: (app) => app.isPlaying,
    run: (app) => app.togglePlaying(),
  },
  {
    name: "next-step",
    hint: "forward by one step",
    key: "ArrowRight",
    place: "transport",
    icon: "M4.5 3v10l8-5z",
    run: (app) => app.stepBy(1),
  },
  {
    name: "next-prediction",
    hint: "forward by one prediction",
    key: "Shift+ArrowRight",
    place: "transport",
    icon: "M8 3v10l6.5-5zM1.5 3v10L8 8z",
    run: (app) => app.stepPrediction(1),
  },
  {
    name: "last",
    hint: "to the end",
    key: "End",
    place: "transport",
    icon: "M11.5 3h2v10h-2zM2.5 3v10l8-5z",
    run: (app) => app.seek(Infinity),
  },
  {
    name: "failure",
    hint: "to the step where it failed",
    key: "d",
    place: "transport",
    icon: "M7 2h2v8H7zM7 11.500h2v2.500H7z",
    run: (app) => app.seekFailure(),
  },
  {
    name: "branch",
    hint: "branch off from this decision",
    key: "b",
    place: "transport",
    icon: "M3 1.500h2v4.500a3 3 0 0 0 3 3h2V6.500l4 3.500-4 3.500V11H8a5 5 0 0 1-3-1v4.500H3z",
    run: (app) => app.toggleBranch(),
  },
  {
    name: "slower",
    hint: "play slower",
    key: "[",
    place: "speed",
    icon: "M3 7.2h10v1.6H3z",
    run: (app) => app.changeSpeed(-1),
  },
  {
    name: "faster",
    hint: "play faster",
    key: "]",
    place: "speed",
    icon: "M3 7.2h4.200V3h1.600v4.200H13v1.600H8.800V13H7.200V8.800H3z",
    run: (app) => app.changeSpeed(1),
  },
  switchOf("plan"),
  switchOf("taken"),
  {
    name: "trail",
    hint: "length of the path taken: two plans, five plans, all",
    key: "l",
    place: "layers",
    text: (app) => `trail: ${app.trail ? `${app.trail} plans` : "all"}`,
    run: (app) => app.cycleTrail(),
  },
  switchOf("ghosts"),
  switchOf("alternatives"),
  switchOf("intermediate_plans"),
  {
    name: "camera",
    hint: "next camera: free, front, side, top, following the gripper",
    key: "c",
    place: "camera",
    text: (app) => `view: ${app.scene.preset}`,
    run: (app) => app.cycleCamera(),
  },
  {
    name: "zoom-in",
    hint: "zoom the graphs in",
    key: "i",
    place: "graphs",
    icon: "M7 2a5 5 0 1 0 3 9l3.500 3.500 1.200-1.200L11 10a5 5 0 0 0-4-8zm-.6 2.500h1.200v1.900h1.900v1.200H7.600v1.900H6.400V7.600H4.500V6.400h1.900z",
    run: (app) => app.zoomGraphs(1),
  },
  {
    name: "zoom-out",
    hint: "zoom the graphs out",
    key: "o",
    place: "graphs",
    icon: "M7 2a5 5 0 1 0 3 9l3.500 3.500 1.200-1.200L11 10a5 5 0 0 0-4-8zM4.500 6.400h5v1.200h-5z",
    run: (app) => app.zoomGraphs(-1),
  },
  {
    name: "list",
    hint: "show or hide the list of episodes",
    key: "e",
    place: "list",
    icon: "M2 3h2v2H2zM6 3h8v2H6zM2 7h2v2H2zM6 7h8v2H6zM2 11h2v2H2zM6 11h8v2H6z",
    isOn: (app) => app.isListOpen,
    run: (app) => app.toggleList(),
  },
  {
    name: "previous-episode",
    hint: "previous episode",
    key: "ArrowUp",
    place: "episodes",
    icon: "M3 11l5-6 5 6z",
    run: (app) => app.stepEpisode(-1),
  },
  {
    name: "next-episode",
    hint: "next episode",
    key: "ArrowDown",
    place: "episodes",
    icon: "M3 5l5 6 5-6z",
    run: (app) => app.stepEpisode(1),
  },
  {
    name: "theme",
    hint: "light or dark",
    key: "t",
    place: "page",
    icon: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 3.500v9a4.5 4.5 0 0 1 0-9z",
    run: (app) => app.toggleTheme(),
  },
  {
    name: "help",
    hint: "keys and colours",
    key: "?",
    place: "page",
    text: () => "?",
    isOn: (app) => app.isHelpOpen,
    run: (app) => app.toggleHelp(),
  },
];

function switchOf(layer: keyof Layers): Command {
  const { label, key, hint } = layerOf(layer);
  return {
    name: layer,
    hint: hint!,
    key: key!,
    place: "layers",
    layer,
    text: () => label,
    isOn: (app) => app.layers[layer],
    run: (app) => app.toggleLayer(layer),
  };
}

const KEY_NAMES: Record<string, string> = {
  Space: "SPACE",
  ArrowLeft: "←",
  ArrowRight: "→",
  ArrowUp: "↑",
  ArrowDown: "↓",
  Home: "HOME",
  End: "END",
};

/** Returns the label of a key on buttons and in the help. */
export function keyName(key: string): string {
  return key
    .split("+")
    .map((part) => KEY_NAMES[part] ?? part.toUpperCase())
    .join(" ");
}

/** Returns a button that changes the theme, for pages without the other controls. */
export function themeButton(onTheme: () => void): HTMLElement {
  const { icon, hint } = COMMANDS.find(({ name }) => name === "theme")!;
  const button = element("button", "command theme", svg("svg", { viewBox: "0 0 16 16" }, svg("path", { d: icon! })));
  button.title = `${hint} (T)`;
  button.ariaLabel = hint;
  button.onclick = onTheme;
  return button;
}

export class Controls {
  private readonly drawn: { command: Command; button: HTMLButtonElement; icon: SVGPathElement | null }[];

  constructor(
    private readonly app: App,
    places: Record<Place, HTMLElement>,
  ) {
    this.drawn = COMMANDS.map((command) => {
      const icon = command.icon ? svg("path", { d: command.icon }) : null;
      const button = element("button", "command", icon ? svg("svg", { viewBox: "0 0 16 16" }, icon) : "");
      button.dataset.command = command.name;
      button.title = `${command.hint} (${keyName(command.key)})`;
      button.ariaLabel = command.hint;
      button.onclick = () => command.run(app);
      if (command.layer) giveSwatch(button, command.layer);
      places[command.place].append(button);
      return { command, button, icon };
    });
    dropFocusOfButtons();
    document.addEventListener("keydown", (event) => this.onKey(event));
  }

  draw(): void {
    for (const { command, button, icon } of this.drawn) {
      const isOn = command.isOn?.(this.app);
      if (isOn !== undefined) button.ariaPressed = String(isOn);
      const text = command.text?.(this.app);
      if (text !== undefined && button.textContent !== text) button.textContent = text;
      if (command.name === "play") icon!.setAttribute("d", isOn ? ICONS.pause : ICONS.play);
    }
  }

  private onKey(event: KeyboardEvent): void {
    if (isTextField(event.target)) return;
    const key = keyOf(event);
    // The list of runs and the comparison have no picture to control.
    const command = COMMANDS.find((each) => each.key === key && (this.app.isInRun || each.name === "theme"));
    if (command) {
      // Otherwise the browser would scroll, or press a button.
      event.preventDefault();
      command.run(this.app);
    } else if (key === "/") {
      event.preventDefault();
      this.app.search();
    } else if (key === "Escape" && this.app.isHelpOpen) this.app.toggleHelp();
  }
}

/** Returns the name of a key, or null for the browser's own shortcuts. Brackets may need AltGr, and "?" Shift. */
function keyOf(event: KeyboardEvent): string | null {
  if ((event.ctrlKey || event.altKey || event.metaKey) && !event.getModifierState("AltGraph")) return null;
  if (event.code === "Space") return "Space";
  if (event.key.length === 1) return event.key.toLowerCase();
  return event.shiftKey ? `Shift+${event.key}` : event.key;
}

function isTextField(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches("input:not([type=checkbox]), textarea, select");
}

/** Removes the focus from a button, which the space bar would press again. */
function dropFocusOfButtons(): void {
  document.addEventListener("click", (event) => {
    if (event.target instanceof Element) event.target.closest<HTMLElement>("button, summary")?.blur();
  });
}
