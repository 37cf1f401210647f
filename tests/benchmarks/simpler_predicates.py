"""Counts the episodes in which SimplerEnv's predicate of success and ManiSkill's differ.

    ./run --extra simpler python -m tests.benchmarks.simpler_predicates

The scripted expert runs all 24 episodes of each task, once as it is and once with a gripper that
never opens again. Both predicates judge every step of the same episode. Each task has a process of
its own, since ManiSkill keeps lists of objects in its classes.
"""

from multiprocessing import get_context

import numpy as np
from rich.console import Console

from sim.simpler_bench.conventions import N_EPISODES
from sim.simpler_bench.env import SimplerEnv
from sim.simpler_bench.tasks import TASKS
from tests.benchmarks.measuring import make_table

EXPERTS = ("as it is", "never lets go")


def run_episode(env, episode_index, lets_go):
    """Return for each step the verdict of SimplerEnv and of ManiSkill."""
    env.reset(episode_index)
    expert = env.make_expert()
    verdicts = []
    has_closed = False
    for _ in range(env.spec.max_steps):
        action = expert.action()
        has_closed |= bool(action[6] < 0)
        if has_closed and not lets_go:
            action[6] = -1
        ours = env.step(action).success
        verdicts.append((ours, bool(env._scene.evaluate()["success"][0])))
    return np.array(verdicts)


def count(name):
    """Return the rows of one task: an expert, and its counts of episodes."""
    env = SimplerEnv(TASKS[name], image_sizes={})
    rows = []
    for expert in EXPERTS:
        episodes = [run_episode(env, k, expert == EXPERTS[0]) for k in range(N_EPISODES)]
        last = np.array([verdicts[-1] for verdicts in episodes])
        differ = [int((verdicts[:, 0] != verdicts[:, 1]).any()) for verdicts in episodes]
        n_differing = int((last[:, 0] != last[:, 1]).sum())
        rows.append([name, expert, *last.sum(axis=0).tolist(), n_differing, sum(differ)])
    env.close()
    return rows


def main():
    heads = ("task", "expert", "SimplerEnv", "ManiSkill", "differ at the end", "at some step")
    table = make_table(f"successes at the end of {N_EPISODES} episodes", *heads)
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for rows in pool.imap(count, TASKS):
            for row in rows:
                table.add_row(*map(str, row))
    Console().print(table)


if __name__ == "__main__":
    main()
