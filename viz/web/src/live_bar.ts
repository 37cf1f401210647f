// The bar of a live rollout: run, step, reset, and a small form to branch off from the decision that one looks at.

import { element, setText } from "./dom";
import type { Episode } from "./episode";
import type { Header } from "./format";
import type { Status, LiveCommand } from "./live";

type Send = (command: LiveCommand) => void;

export class LiveBar {
  readonly root = element("section", "live");
  private readonly state = element("span", "state");
  private readonly note = element("span", "note");
  private readonly run: HTMLButtonElement;
  private readonly episodeIndex = numberInput("episode", 0);
  private readonly branchForm: BranchForm;

  constructor(send: Send) {
    this.run = button("live-run", "run", "roll out on and on (SPACE at the head)", () =>
      send({ command: this.run.dataset.running ? "pause" : "run" }),
    );
    this.branchForm = new BranchForm(send);
    const reset = element("form", "reset", labelled("episode", this.episodeIndex), submitButton("live-reset", "reset"));
    reset.onsubmit = (event) => {
      event.preventDefault();
      giveKeysBack();
      send({ command: "reset", episode_index: this.episodeIndex.valueAsNumber });
    };
    this.root.append(
      this.state,
      this.run,
      button("live-step", "step", "one control step (→ at the head)", () => send({ command: "step" })),
      button("live-step-prediction", "next prediction", "on to the next prediction (SHIFT → at the head)", () =>
        send({ command: "step_prediction" }),
      ),
      reset,
      this.branchForm.root,
      this.note,
    );
  }

  draw(status: Status, episode: Episode | null, step: number, isAtHead: boolean): void {
    this.state.dataset.state = status.state;
    setText(this.state, status.state);
    setText(
      this.note,
      status.message || (isAtHead ? "at the head: the keys drive the rollout" : "history: the keys play it back"),
    );
    setText(this.run, status.state === "running" ? "pause" : "run");
    this.run.dataset.running = status.state === "running" ? "yes" : "";
    for (const control of this.root.querySelectorAll("button")) control.disabled = status.state === "closed";
    this.branchForm.draw(episode, step);
  }
}

class BranchForm {
  readonly root = element("details", "branch");
  private readonly summary = element("summary", "", "branch");
  private readonly seed = numberInput("seed", 0);
  private readonly nActionSteps = numberInput("n_action_steps", 1);
  private readonly instruction = element("input");
  private readonly cameras = element("span", "blinded");
  private at: { header: Header; prediction: number } | null = null;

  constructor(send: Send) {
    this.instruction.name = "instruction";
    this.instruction.size = 34;
    this.instruction.required = this.seed.required = this.nActionSteps.required = true;
    const form = element(
      "form",
      "",
      labelled("seed (0: the same)", this.seed),
      labelled("actions a chunk", this.nActionSteps),
      labelled("instruction", this.instruction),
      this.cameras,
      submitButton("live-branch", "run another future from here"),
    );
    form.onsubmit = (event) => {
      event.preventDefault();
      giveKeysBack();
      this.root.open = false;
      const { header, prediction } = this.at!;
      const nActionSteps = this.nActionSteps.valueAsNumber;
      const instruction = this.instruction.value;
      send({
        command: "branch",
        key: header.key,
        prediction,
        seed: this.seed.valueAsNumber,
        n_action_steps: nActionSteps === header.n_action_steps ? null : nActionSteps,
        instruction: instruction === header.instruction ? null : instruction,
        blinded: [...this.cameras.querySelectorAll("input")].filter(({ checked }) => checked).map(({ name }) => name),
      });
    };
    this.root.append(this.summary, form);
  }

  /** The form is about the decision in force; what was typed stays until the episode is another. */
  draw(episode: Episode | null, step: number): void {
    const prediction = episode?.nMoments ? episode.decisionAt(step) : -1;
    this.root.hidden = prediction < 0;
    if (!episode || prediction < 0) return;
    const { header } = episode;
    if (this.at?.header !== header) {
      this.nActionSteps.value = String(header.n_action_steps);
      this.instruction.value = header.instruction;
      this.cameras.replaceChildren(
        ...episode.decisions[prediction].cameras.map(({ name }) => {
          const box = element("input");
          box.type = "checkbox";
          box.name = name;
          return labelled(`blind ${name}`, box);
        }),
      );
    }
    this.at = { header, prediction };
    setText(this.summary, `branch at prediction ${prediction + 1}`);
  }
}

/** While a field has the focus the keys are for typing. */
function giveKeysBack(): void {
  if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
}

function button(name: string, text: string, hint: string, onClick: () => void): HTMLButtonElement {
  const made = element("button", "command", text);
  made.type = "button";
  made.dataset.command = name;
  made.title = hint;
  made.onclick = onClick;
  return made;
}

function submitButton(name: string, text: string): HTMLButtonElement {
  const made = element("button", "command", text);
  made.dataset.command = name;
  return made;
}

function numberInput(name: string, least: number): HTMLInputElement {
  const input = element("input");
  input.type = "number";
  input.name = name;
  input.min = String(least);
  input.value = String(least);
  return input;
}

function labelled(text: string, input: HTMLInputElement): HTMLLabelElement {
  return input.type === "checkbox" ? element("label", "", input, text) : element("label", "", text, input);
}
