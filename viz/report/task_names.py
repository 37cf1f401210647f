"""Names tasks in a list of several: by the number in the suite, and by the words that tell them apart.

The viewer does the same in `viz/web/src/task_names.ts`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix


@dataclass(frozen=True)
class TaskName:
    """Names a task beside others.

    Attributes:
        short: its number in the suite; of tasks of several suites with the suite's name.
        words: its name without the words that all tasks begin and end with.
    """

    short: str
    words: str


def name_tasks(tasks: Sequence[str], envs: Mapping[str, str]) -> dict[str, TaskName]:
    """Return task → its name, in the order of the tasks' numbers.

    Args:
        envs: task → the name to evaluate it by.
    """
    env_names = [envs.get(task, task) for task in tasks]
    has_suites = len({env.partition("/")[0] for env in env_names}) > 1
    words = [
        re.split(r"[_ ]+", task if has_suites else task.partition("/")[2] or task) for task in tasks
    ]
    n_first = _count_shared(words)
    n_last = _count_shared([each[n_first:][::-1] for each in words])
    names = {
        task: TaskName(
            env if has_suites else env.partition("/")[2] or env,
            " ".join(each[n_first : len(each) - n_last]),
        )
        for task, env, each in zip(tasks, env_names, words, strict=True)
    }
    return dict(sorted(names.items(), key=lambda item: _by_number(item[1].short)))


def _count_shared(lists: Sequence[list[str]]) -> int:
    """Return how many words all lists begin with; a single list shares none."""
    return len(commonprefix(lists)) if len(lists) > 1 else 0


def _by_number(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts names by the numbers in them, not by their digits."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
