// Names tasks in a list of several: by their number in the suite and the words that differ.

export interface TaskName {
  /** The number in the suite, after the suite's name if there are several suites. */
  short: string;
  /** The name without the first and last words that all tasks share. */
  words: string;
}

/** @param envs task → the environment name with which it is evaluated. */
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

/** Compares names so that 9 comes before 10. */
export const compareNames = new Intl.Collator("en", { numeric: true }).compare;

function suiteOf(env: string): string {
  return env.includes("/") ? env.slice(0, env.indexOf("/")) : "";
}

/** Returns how many words all lists begin with; 0 for a single list. */
function countShared(lists: readonly string[][]): number {
  const [first, ...others] = lists;
  if (!others.length) return 0;
  const n = first.findIndex((word, i) => others.some((other) => other[i] !== word));
  return n < 0 ? first.length : n;
}
