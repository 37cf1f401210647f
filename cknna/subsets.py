"""Finds the subsets of a bank's rows that are scored separately.

The subsets are the tasks, successes and failures, and the phases of the episode.
"""

from collections.abc import Iterable
from os.path import commonprefix

import numpy as np
from jaxtyping import Bool

from cknna.bank import FeatureBank

type _Rows = Bool[np.ndarray, " row"]

# Prefix of the name of a subset that is a task.
TASK = "task "
THIRDS = ("early", "middle", "late")


def find_subsets(bank: FeatureBank) -> dict[str, _Rows]:
    """Return subset → its rows, leaving out subsets with all rows or none."""
    tasks = enumerate(bank.tasks)
    subsets = {f"{TASK}{name}": bank.task_index == index for index, name in tasks}
    if bank.rollout is not None:
        subsets["successes"] = bank.rollout.success
        subsets["failures"] = ~bank.rollout.success
    subsets |= _find_phases(bank)
    n = bank.n_rows
    return {name: rows for name, rows in subsets.items() if 0 < rows.sum() < n}


def label_subsets(subsets: Iterable[str]) -> dict[str, str]:
    """Return subset → its label.

    The label of a task leaves out words at its ends that all tasks share.
    """
    labels = {subset: subset for subset in subsets}
    words = {
        subset: subset.removeprefix(TASK).split("_") for subset in labels if subset.startswith(TASK)
    }
    if len(words) == 1:
        return labels
    n_first = len(commonprefix(list(words.values())))
    n_last = len(commonprefix([each[n_first:][::-1] for each in words.values()]))
    for name, each in words.items():
        labels[name] = TASK + " ".join(each[n_first : len(each) - n_last])
    return labels


def _find_phases(bank: FeatureBank) -> dict[str, _Rows]:
    """Return the phases around the grasp if anything was grasped, else thirds of each episode."""
    episode = bank.episode
    n_episodes = int(episode.max()) + 1
    if bank.rollout is not None and bank.rollout.held.any():
        held = bank.rollout.held
        first_held = np.full(n_episodes, np.inf)
        np.minimum.at(first_held, episode[held], bank.step[held])
        before = bank.step < first_held[episode]
        return {
            "before the grasp": before,
            "holding": held,
            "after a grasp": ~before & ~held,
        }
    n_steps = np.zeros(n_episodes)
    np.maximum.at(n_steps, episode, bank.step + 1)
    third = np.minimum((3 * bank.step / n_steps[episode]).astype(int), len(THIRDS) - 1)
    return {name: third == index for index, name in enumerate(THIRDS)}
