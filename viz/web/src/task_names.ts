// Names tasks in a list of several: by the number in the suite, and by the words that tell them apart.

export interface TaskName {
  /** Number in the suite; of tasks of several suites with the suite's name. */
  short: string;
  /** The name without the words that all tasks begin and end with. */
  words: string;
}

/** @param envs task → the name to evaluate it by. */
export function nameTasks(tasks: readonly string[], envs: Record<string, string>): Map<string, TaskName> {
  const suites = new Set(tasks.map((task) => suiteOf(envs[task] ?? task)));
  const words = tasks.map((task) => (suites.size > 1 ? task : task.slice(task.indexOf("/") + 1)).split(/[_ ]+/));
  const nFirst = countShared(words);
  const nLast = countShared(words.map((each) => each.slice(nFirst).reverse()));
  return new Map(
    tasks.map((task, i) => {
      const env = envs[task] ?? task;
      const short = suites.size > 1 ? env : env.slice(env.indexOf("/") + 1);
      return [task, { short, words: words[i].slice(nFirst, words[i].length - nLast).join(" ") }];
    }),
  );
}

/** In the order of their numbers, not of their digits. */
export const compareNames = new Intl.Collator("en", { numeric: true }).compare;

function suiteOf(env: string): string {
  return env.includes("/") ? env.slice(0, env.indexOf("/")) : "";
}

/** How many words all lists begin with; one list shares none. */
function countShared(lists: readonly string[][]): number {
  const [first, ...others] = lists;
  if (!others.length) return 0;
  const n = first.findIndex((word, i) => others.some((other) => other[i] !== word));
  return n < 0 ? first.length : n;
}
