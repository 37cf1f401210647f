// The form that starts a branch at the shown decision. Inputs that the policy cannot use are disabled, with the reason.

import { element, setText } from "./dom";
import type { Episode } from "./episode";
import type { BranchField, Header, Page } from "./format";
import type { LiveCommand } from "./live";

export class BranchForm {
  readonly root = element("details", "branch");
  private readonly summary = element("summary", "", "branch");
  private readonly seed = numberInput("seed", 0);
  private readonly nActionSteps = numberInput("n_action_steps", 1);
  private readonly instruction = element("input");
  private readonly cameras = element("div", "blinded");
  private readonly submit = element("button", "command", "run another future from here");
  private readonly hint = element("small", "why");
  private readonly reasons = new Map<BranchField | "branch", HTMLElement>();
  private unusable: Page["unusable"] = {};
  private at: { header: Header; prediction: number } | null = null;

  constructor(send: (command: LiveCommand) => void) {
    this.instruction.name = "instruction";
    this.instruction.required = this.seed.required = this.nActionSteps.required = true;
    this.submit.dataset.command = "live-branch";
    const form = element(
      "form",
      "",
      this.reason("branch"),
      this.field("seed", "seed (0: the same noise)", this.seed),
      this.field("n_action_steps", "actions of a plan that are executed", this.nActionSteps),
      this.field("instruction", "instruction", this.instruction),
      element("div", "field", this.cameras, this.reason("blinded")),
      this.submit,
      this.hint,
    );
    form.onsubmit = (event) => {
      event.preventDefault();
      giveKeysBack();
      this.root.open = false;
      send(this.command());
    };
    this.root.append(this.summary, form);
  }

  /** Sets the inputs that the policy cannot use. */
  load({ kind, policy, checkpoint, unusable, most_action_steps }: Page): void {
    this.unusable = unusable;
    const isLoadedLater = kind === "run" && !unusable.branch;
    setText(this.hint, isLoadedLater ? `${checkpoint || policy} is loaded for the first one.` : "");
    this.nActionSteps.max = String(most_action_steps);
    for (const [field, node] of this.reasons) {
      const reason = unusable[field] ?? "";
      node.hidden = !reason;
      setText(node, reason);
    }
    this.disable();
  }

  /** Updates the form for the current decision. Typed text stays until another episode is shown. */
  draw(episode: Episode | null, step: number): void {
    const prediction = episode?.nMoments ? episode.decisionAt(step) : -1;
    this.root.hidden = prediction < 0;
    if (!episode || prediction < 0) return;
    const { header } = episode;
    if (this.at?.header !== header) {
      this.nActionSteps.value = String(header.n_action_steps);
      this.instruction.value = header.instruction;
      this.cameras.replaceChildren(
        ...header.cameras.map(({ name }) => {
          const box = element("input");
          box.type = "checkbox";
          box.name = name;
          return element("label", "", box, `black out ${name}`);
        }),
      );
      this.disable();
    }
    this.at = { header, prediction };
    setText(this.summary, `branch at prediction ${prediction + 1}`);
  }

  private command(): LiveCommand {
    const { header, prediction } = this.at!;
    const nActionSteps = this.nActionSteps.valueAsNumber;
    const instruction = this.instruction.value;
    return {
      command: "branch",
      key: header.key,
      prediction,
      seed: this.seed.valueAsNumber,
      n_action_steps: nActionSteps === header.n_action_steps ? null : nActionSteps,
      instruction: instruction === header.instruction ? null : instruction,
      blinded: [...this.cameras.querySelectorAll("input")].filter(({ checked }) => checked).map(({ name }) => name),
    };
  }

  private disable(): void {
    const isUnusable = (field: BranchField) => Boolean(this.unusable.branch ?? this.unusable[field]);
    this.seed.disabled = isUnusable("seed");
    this.nActionSteps.disabled = isUnusable("n_action_steps");
    this.instruction.disabled = isUnusable("instruction");
    for (const box of this.cameras.querySelectorAll("input")) box.disabled = isUnusable("blinded");
    this.submit.disabled = Boolean(this.unusable.branch);
  }

  private field(name: BranchField, text: string, input: HTMLInputElement): HTMLElement {
    return element("div", "field", element("label", "", text, input), this.reason(name));
  }

  private reason(field: BranchField | "branch"): HTMLElement {
    const node = element("small", "why");
    node.hidden = true;
    this.reasons.set(field, node);
    return node;
  }
}

/** While a field has the focus, keys type instead of running commands. */
export function giveKeysBack(): void {
  if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
}

export function numberInput(name: string, least: number): HTMLInputElement {
  const input = element("input");
  input.type = "number";
  input.name = name;
  input.min = String(least);
  input.value = String(least);
  return input;
}
