// The bar that controls rollouts: run, step, reset, and the form for a branch. In a recorded run it is shown on demand.

import { BranchForm, giveKeysBack, numberInput } from "./branch_form";
import { element, setText } from "./dom";
import type { Episode } from "./episode";
import type { Page } from "./format";
import type { LiveCommand, Status } from "./live";

type Send = (command: LiveCommand) => void;

export class LiveBar {
  readonly root = element("section", "live");
  private readonly state = element("span", "state");
  private readonly note = element("span", "note");
  private readonly run: HTMLButtonElement;
  /** The buttons that control a running rollout. */
  private readonly drive: HTMLElement;
  private readonly reset: HTMLElement;
  private readonly episodeIndex = numberInput("episode", 0);
  private readonly branchForm: BranchForm;
  private isLive = true;

  constructor(send: Send) {
    this.run = button("live-run", "run", "roll out on and on (SPACE at the head)", () =>
      send({ command: this.run.dataset.running ? "pause" : "run" }),
    );
    this.drive = element(
      "span",
      "drive",
      this.run,
      button("live-step", "step", "one control step (→ at the head)", () => send({ command: "step" })),
      button("live-step-prediction", "next prediction", "on to the next prediction (SHIFT → at the head)", () =>
        send({ command: "step_prediction" }),
      ),
    );
    this.branchForm = new BranchForm(send);
    const submit = element("button", "command", "reset");
    submit.dataset.command = "live-reset";
    const reset = element("form", "reset", element("label", "", "episode", this.episodeIndex), submit);
    reset.onsubmit = (event) => {
      event.preventDefault();
      giveKeysBack();
      send({ command: "reset", episode_index: this.episodeIndex.valueAsNumber });
    };
    this.reset = reset;
    this.root.append(this.state, this.drive, reset, this.branchForm.root, this.note);
  }

  load(page: Page): void {
    this.isLive = page.kind === "live";
    this.reset.hidden = !this.isLive;
    this.branchForm.load(page);
  }

  /** Opens or closes the form for a branch. */
  toggleBranch(): void {
    this.branchForm.root.open = !this.branchForm.root.open;
  }

  /** @param progress progress of the current work, in words. */
  draw(status: Status, progress: string, episode: Episode | null, step: number, isAtHead: boolean): void {
    const isDriven = this.isLive || Boolean(episode?.isRunning);
    const isBusy = status.state === "running" || status.state === "busy";
    this.root.hidden = !isDriven && !isBusy && !this.branchForm.root.open;
    this.state.hidden = !isDriven && !isBusy;
    this.drive.hidden = !isDriven;
    this.state.dataset.state = status.state;
    setText(this.state, status.state);
    const hint = isAtHead ? "at the head: the keys drive the rollout" : "history: the keys play it back";
    setText(this.note, progress || (isDriven ? hint : ""));
    this.note.toggleAttribute("data-hint", !progress);
    const isRunning = status.state === "running" || (!this.isLive && isBusy);
    setText(this.run, isRunning ? "pause" : "run");
    this.run.dataset.running = isRunning ? "yes" : "";
    for (const control of this.root.querySelectorAll<HTMLButtonElement>(":scope > :not(.branch) button"))
      control.disabled = status.state === "closed";
    this.branchForm.draw(episode, step);
  }
}

function button(name: string, text: string, hint: string, onClick: () => void): HTMLButtonElement {
  const made = element("button", "command", text);
  made.type = "button";
  made.dataset.command = name;
  made.title = hint;
  made.onclick = onClick;
  return made;
}
