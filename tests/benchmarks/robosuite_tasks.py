"""Measures our environments of robosuite's tasks against robosuite's own.

    uv run python -m tests.benchmarks.robosuite_tasks

Times are CPU times of this process (all threads) on software rendering. Both environments have the
84 px cameras of robomimic's image policies and execute the same random actions. The stock
environment renders in every step, as robomimic's image rollouts do. Ours renders once in a chunk of
8 actions. They take turns, because the machine drifts. The table has medians and their ratios.
"""

from statistics import median

import numpy as np
from rich.console import Console
from rich.progress import track

from sim.robosuite_tasks.env import RobosuiteTaskEnv
from sim.robosuite_tasks.tasks import TASKS
from tests.benchmarks.measuring import cpu_s, make_table, run_chunk, run_stock
from tests.stock_robosuite import begin_stock_episode, make_stock_env

NAMES = ("Lift", "Stack", "PickPlaceCan", "NutAssemblySquare", "Door", "Wipe", "TwoArmLift")
CHUNK = 8
N_ROUNDS = 7


def make_actions(seed, dim):
    return np.random.default_rng(seed).uniform(-1, 1, (CHUNK, dim)).astype(np.float32)


def measure(name):
    """Return the median times (reset, step) [s] of ours and of the stock environment."""
    env = RobosuiteTaskEnv(TASKS[name])
    stock = make_stock_env(name)
    resets = {"ours": [], "stock": []}
    steps = {"ours": [], "stock": []}
    for episode_index in range(N_ROUNDS + 1):
        actions = make_actions(episode_index, env.spec.action.dim)
        # The reset of the stock environment renders its first observation, which is the one that
        # ours renders in the chunk.
        rounds = {
            "ours": (lambda k=episode_index: env.reset(k), lambda a=actions: run_chunk(env, a)),
            "stock": (
                lambda k=episode_index: begin_stock_episode(stock, name, k),
                lambda a=actions: run_stock(stock, a),
            ),
        }
        for contender, (reset, chunk) in rounds.items():
            reset_s = cpu_s(reset)
            step_s = cpu_s(chunk) / CHUNK
            # The first round compiles and fills caches.
            if episode_index > 0:
                resets[contender].append(reset_s)
                steps[contender].append(step_s)
    env.close()
    stock.close()
    return [{key: median(values) for key, values in each.items()} for each in (resets, steps)]


def main():
    heads = ("task", "reset", "stock", "ratio", "step", "stock", "ratio")
    table = make_table("CPU time, medians", *heads)
    for name in track(NAMES):
        cells = []
        for times in measure(name):
            ours = times["ours"]
            stock = times["stock"]
            cells += [f"{1000 * ours:.0f} ms", f"{1000 * stock:.0f} ms", f"{stock / ours:.1f}"]
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
