// Two runs side by side: which one is better, and the episodes in which they differ, each of which opens in the viewer.

import { themeButton } from "./controls";
import { element, setText } from "./dom";
import type { Row } from "./format";
import { hashOf } from "./location";
import { failedAt, happened, outcomeInWords, stepText } from "./outcomes";

type Group = "only_first" | "only_second" | "neither" | "both";

interface ComparedEpisode {
  key: string;
  group: Group;
  first: Row;
  second: Row;
}

/** Two runs as compared by `viz/run_pair.py`. */
export interface Compared {
  /** The run's name in the list, and what the sentences call it. */
  first: { run: string; name: string };
  second: { run: string; name: string };
  verdict: string;
  remarks: string[];
  counts: Record<Group, number>;
  episodes: ComparedEpisode[];
}

const GROUPS: readonly Group[] = ["only_first", "only_second", "neither", "both"];

export class ComparisonPage {
  readonly root = element("main", "comparison");
  private readonly title = element("h1");
  private readonly swap = element("a", "swap", "swap");
  private readonly verdict = element("p", "verdict");
  private readonly remarks = element("ul");
  private readonly counts = element("div", "counts");
  private readonly table = element("table");
  private readonly pane = element("div", "pane", this.verdict, this.counts, this.remarks, this.table);

  private received = "";

  constructor(onTheme: () => void) {
    const back = element("a", "back", "‹ runs");
    back.href = "#";
    back.title = "back to the list of runs";
    this.swap.title = "show the second run first: its episodes are then opened, and the other's are drawn into them";
    this.root.append(element("header", "", back, this.title, this.swap, themeButton(onTheme)), this.pane);
  }

  show(compared: Compared): void {
    const received = JSON.stringify(compared);
    // What has not changed is not drawn again, so that back from an episode leads to where its row was.
    if (received === this.received) return;
    this.received = received;
    const { first, second, episodes } = compared;
    setText(this.title, `${first.name} and ${second.name}`);
    this.title.title = `${first.run} and ${second.run}`;
    this.swap.href = hashOf({ run: second.run, against: first.run });
    setText(this.verdict, compared.verdict);
    this.remarks.hidden = !compared.remarks.length;
    this.remarks.replaceChildren(...compared.remarks.map((remark) => element("li", "", remark)));
    const bodies = new Map(GROUPS.map((group) => [group, drawGroup(compared, group)]));
    this.counts.replaceChildren(...GROUPS.map((group) => drawCount(compared, group, bodies.get(group)!)));
    const head = element("tr", "", ...["episode", first.name, second.name].map((name) => element("th", "", name)));
    this.table.replaceChildren(element("thead", "", head), ...bodies.values());
    this.table.hidden = !episodes.length;
    this.pane.scrollTop = 0;
  }
}

/** Returns a button that goes to the episodes that it counts. */
function drawCount(compared: Compared, group: Group, episodes: HTMLElement): HTMLElement {
  const n = compared.counts[group];
  const button = element("button", "", element("b", "", String(n)), ` ${nameOf(compared, group)}`);
  button.dataset.group = group;
  button.disabled = !n;
  button.onclick = () => episodes.scrollIntoView();
  return button;
}

function drawGroup(compared: Compared, group: Group): HTMLElement {
  const episodes = compared.episodes.filter((episode) => episode.group === group);
  const body = element("tbody");
  body.dataset.group = group;
  body.hidden = !episodes.length;
  const title = element("th", "", `${nameOf(compared, group)} (${episodes.length})`);
  title.colSpan = 3;
  body.append(element("tr", "", title), ...episodes.map((episode) => drawEpisode(compared, episode)));
  return body;
}

function drawEpisode(compared: Compared, episode: ComparedEpisode): HTMLElement {
  const { first, second } = compared;
  const { task, episode_index } = episode.first;
  const isOfOneTask = compared.episodes.every((each) => each.first.task === task);
  const link = element("a", "open", isOfOneTask ? `#${episode_index}` : episode.key);
  // A successful first run is shown where the second one fails, since its own end says little.
  const step = failedAt(episode.first) ?? failedAt(episode.second);
  link.href = hashOf({ run: first.run, against: second.run, episode: episode.key, step });
  const cells = [[link], drawResult(episode.first), drawResult(episode.second)];
  const row = element("tr", "", ...cells.map((parts) => element("td", "", ...parts)));
  row.dataset.key = episode.key;
  row.onclick = ({ target }) => {
    if (target !== link && !getSelection()?.toString()) link.click();
  };
  return row;
}

/** Returns how an episode ended: its outcome, and what went wrong at which step. */
function drawResult(row: Row): Node[] {
  const outcome = element("b", "", element("i"), outcomeInWords(row.outcome));
  outcome.dataset.outcome = row.outcome;
  return [outcome, element("span", "", [happened(row), stepText(row)].filter(Boolean).join(", "))];
}

function nameOf({ first, second }: Compared, group: Group): string {
  if (group === "only_first") return `only ${first.name} succeeds`;
  if (group === "only_second") return `only ${second.name} succeeds`;
  return group === "both" ? "both succeed" : "neither succeeds";
}
