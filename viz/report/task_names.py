"""Names tasks in a list of several: by their number in the suite and the words that differ.

The viewer does the same in `viz/web/src/task_names.ts`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix


@dataclass(frozen=True)
class TaskName:
    """The name of a task among others.

    Attributes:
        short: its number in the suite, after the suite's name if there are several suites.
        words: its name without the first and last words that all tasks share.
    """

    short: str
    words: str


def name_tasks(
    tasks: Sequence[str],
    envs: Mapping[str, str],
) -> dict[str, TaskName]:
    """Return task → its name, in the order of the tasks' numbers.

    Args:
        envs: task → the environment name with which it is evaluated.
    """
    env_names = [envs.get(task, task) for task in tasks]
    suites = {env.partition("/")[0] for env in env_names}
    has_suites = len(suites) > 1

    def drop_suite(name: str) -> str:
        return name if has_suites else name.partition("/")[2] or name

    words = [re.split(r"[_ ]+", drop_suite(task)) for task in tasks]
    n_first = _count_shared(words)
    n_last = _count_shared([each[n_first:][::-1] for each in words])
    names = {}
    for task, env, each in zip(tasks, env_names, words, strict=True):
        differing = each[n_first : len(each) - n_last]
        names[task] = TaskName(drop_suite(env), " ".join(differing))
    by_number = sorted(names, key=lambda task: _number_key(names[task].short))
    return {task: names[task] for task in by_number}


def _count_shared(lists: Sequence[list[str]]) -> int:
    """Return how many words all lists begin with; 0 for a single list."""
    return len(commonprefix(lists)) if len(lists) > 1 else 0


def _number_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key by which 9 comes before 10."""
    key = []
    for part in re.split(r"(\d+)", name):
        if part.isdigit():
            key.append((int(part), ""))
        else:
            key.append((-1, part))
    return key
