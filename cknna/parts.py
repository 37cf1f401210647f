"""Of which rows of a bank a score is asked separately: each task, successes and failures, phases of the episode."""

from collections.abc import Iterable
from os.path import commonprefix

import numpy as np
from jaxtyping import Bool

from cknna.bank import FeatureBank

# What the name of a task is preceded by.
TASK = "task "
THIRDS = ("early", "middle", "late")


def find_parts(bank: FeatureBank) -> dict[str, Bool[np.ndarray, " row"]]:
    """Part → its rows. A part that is everything, or nothing, is left out."""
    parts = {f"{TASK}{name}": bank.task_index == index for index, name in enumerate(bank.tasks)}
    if bank.rollout is not None:
        parts |= {"successes": bank.rollout.success, "failures": ~bank.rollout.success}
    parts |= _find_phases(bank)
    return {name: rows for name, rows in parts.items() if 0 < rows.sum() < bank.n_rows}


def label_parts(parts: Iterable[str]) -> dict[str, str]:
    """Part → what a person reads; of tasks the words that not all of them begin or end with."""
    parts = list(dict.fromkeys(parts))
    words = {part: part.removeprefix(TASK).split("_") for part in parts if part.startswith(TASK)}
    if len(words) == 1:
        words = {}
    n_first = len(commonprefix(list(words.values())))
    n_last = len(commonprefix([each[n_first:][::-1] for each in words.values()]))
    short = {
        part: TASK + " ".join(each[n_first : len(each) - n_last]) for part, each in words.items()
    }
    return {part: short.get(part, part) for part in parts}


def _find_phases(bank: FeatureBank) -> dict[str, Bool[np.ndarray, " row"]]:
    """Return the phases around the grasp, where something was grasped; else thirds of each episode."""
    if bank.rollout is not None and (held := bank.rollout.held).any():
        first_held = np.full(int(bank.episode.max()) + 1, np.inf)
        np.minimum.at(first_held, bank.episode[held], bank.step[held])
        before = bank.step < first_held[bank.episode]
        return {"before the grasp": before, "holding": held, "after a grasp": ~before & ~held}
    n_steps = np.zeros(int(bank.episode.max()) + 1)
    np.maximum.at(n_steps, bank.episode, bank.step + 1)
    third = np.minimum((3 * bank.step / n_steps[bank.episode]).astype(int), len(THIRDS) - 1)
    return {name: third == index for index, name in enumerate(THIRDS)}
