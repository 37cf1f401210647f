// The runs that are ticked in the list, and the button that compares two of them.

import type { Compared } from "./comparison";
import { element, setText } from "./dom";
import { hashOf } from "./location";

export class PairBar {
  readonly root = element("div", "pair");
  /** Names of the ticked runs, in the order in which they were ticked. */
  private names: string[] = [];
  private readonly button = element("button", "command", "compare");
  private readonly chips = element("span", "ticked");
  private readonly note = element("span", "note");
  /** Number of requests so far. Answers to earlier ones are ignored. */
  private nAsked = 0;

  /** @param onChange called when a run was ticked or unticked. */
  constructor(
    private readonly compare: (run: string, against: string) => Promise<Compared>,
    private readonly onChange: () => void,
  ) {
    this.note.role = "status";
    this.button.onclick = () => {
      const [run, against] = this.names;
      location.hash = hashOf({ run, against });
    };
    this.root.append(this.button, this.chips, this.note);
    this.ask();
  }

  isTicked(name: string): boolean {
    return this.names.includes(name);
  }

  get isFull(): boolean {
    return this.names.length === 2;
  }

  toggle(name: string): void {
    const others = this.names.filter((each) => each !== name);
    this.names = this.isTicked(name) ? others : [...others, name].slice(0, 2);
    this.ask();
    this.onChange();
  }

  /** Unticks runs that are gone, and asks again about the others, which may have grown. */
  update(listed: readonly string[]): void {
    this.root.hidden = listed.length < 2;
    const left = this.names.filter((name) => listed.includes(name));
    if (!this.names.length && !left.length) return;
    this.names = left;
    this.ask();
  }

  private ask(): void {
    const [run, against] = this.names;
    const asked = ++this.nAsked;
    this.chips.replaceChildren(...this.names.map((name) => this.drawChip(name)));
    this.tell(this.names.length ? "Tick a second run." : "Tick two runs to compare them.");
    if (!against) return;
    this.tell("comparing …");
    this.compare(run, against).then(
      ({ verdict, remarks }) => asked === this.nAsked && this.tell([verdict, ...remarks].join(" "), "comparable"),
      (error: Error) => asked === this.nAsked && this.tell(error.message, "refused"),
    );
  }

  /** Shows why the button is disabled, or the verdict on two runs that can be compared. */
  private tell(note: string, state: "" | "comparable" | "refused" = ""): void {
    setText(this.note, note);
    this.root.dataset.state = state;
    this.button.disabled = state !== "comparable";
    this.button.title = this.button.disabled ? note : "show both runs episode by episode";
  }

  private drawChip(name: string): HTMLElement {
    const chip = element("button", "chip", `${name} ×`);
    chip.title = `untick ${name}`;
    chip.onclick = () => this.toggle(name);
    return chip;
  }
}
