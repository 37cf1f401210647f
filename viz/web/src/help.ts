// The help: all keys, from the table of commands, and all colours.

import { COMMANDS, keyName } from "./controls";
import { element } from "./dom";
import { LAYERS } from "./overlay_style";
import { makeSwatch } from "./swatch";

const MOUSE =
  "Drag in the picture to turn it, or drag with the right button to move it; the wheel zooms. " +
  "Click a graph or the timeline to go there; Ctrl and the wheel zoom the graphs. " +
  "/ searches the episodes.";

export function makeHelp(onClose: () => void): HTMLElement {
  const keys = element("dl", "keys");
  for (const { key, hint } of COMMANDS)
    keys.append(element("div", "", element("dt", "", element("kbd", "", keyName(key))), element("dd", "", hint)));
  const colours = element("dl", "colours");
  for (const { layer, meaning } of LAYERS)
    colours.append(element("dt", "", makeSwatch(layer)), element("dd", "", meaning));
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
