// Messages of the page: one that stays, and one that disappears by itself.

import { element, setText } from "./dom";
import { PageError } from "./source";

const TOAST_MS = 2500;

export class Notices {
  readonly message = element("div", "message");
  readonly toast = element("div", "toast");
  private timer = 0;

  constructor() {
    this.message.role = "alert";
    this.toast.role = "status";
    this.message.hidden = this.toast.hidden = true;
  }

  get error(): string | null {
    return this.message.hidden ? null : this.message.textContent;
  }

  get said(): string | null {
    return this.toast.hidden ? null : this.toast.textContent;
  }

  show(error: string | null): void {
    this.message.hidden = error === null;
    setText(this.message, error ?? "");
  }

  fail(error: unknown): void {
    // Any other error is a bug, whose stack trace is needed.
    if (!(error instanceof PageError)) console.error(error);
    this.show(error instanceof Error ? error.message : String(error));
  }

  say(text: string): void {
    setText(this.toast, text);
    this.toast.hidden = false;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => (this.toast.hidden = true), TOAST_MS);
  }
}
