// The keys, out of the table of commands, and the colours.

import { COMMANDS, keyName } from "./controls";
import { element } from "./dom";
import { makeSwatch, type ColourName } from "./swatch";

const MEANINGS: readonly (readonly [ColourName, string])[] = [
  ["plan", "the plan in force; the bold part is executed, a dot is one action"],
  ["taken", "the way really taken, since the plan before this one or for longer"],
  ["ghost", "plans made before, fading with age"],
  ["alternative", "other samples of the same decision; drafts turn from grey to green"],
  ["other", "another future: what a branch, or the episode it left, did instead"],
];

const MOUSE =
  "Drag in the picture to turn it, with the right button to move it; the wheel zooms. " +
  "Click a graph or the timeline to go there; Ctrl and the wheel zoom the graphs. " +
  "/ searches the episodes.";

export function makeHelp(onClose: () => void): HTMLElement {
  const keys = element("dl", "keys");
  for (const { key, hint } of COMMANDS)
    keys.append(element("div", "", element("dt", "", element("kbd", "", keyName(key))), element("dd", "", hint)));
  const colours = element("dl", "colours");
  for (const [name, meaning] of MEANINGS)
    colours.append(element("dt", "", makeSwatch(name)), element("dd", "", meaning));
  const card = element("div", "card", element("h2", "", "Keys"), keys, element("h2", "", "Colours"), colours);
  card.append(element("p", "", MOUSE));
  const help = element("div", "help", card);
  help.id = "help";
  help.hidden = true;
  help.onclick = (event) => {
    if (event.target === help) onClose();
  };
  return help;
}
