"""Measures our environments of SimplerEnv's tasks against ManiSkill's own.

    ./run --extra simpler python -m tests.benchmarks.simpler_tasks

Times are CPU times of this process (all threads). Both environments execute the same random
actions. ManiSkill's renders in every step. Ours renders once in a chunk of 4 actions, as
open-pi-zero looks. They take turns, because the machine drifts. Then the parts of ours are measured
in the same rounds. The tables have medians and their ratios. There is one task, because ManiSkill
keeps lists of objects in its classes, and both share one process.
"""

from statistics import median

import gymnasium
import numpy as np
from rich.console import Console
from rich.progress import track

from sim.simpler_bench.env import SimplerEnv
from sim.simpler_bench.tasks import TASKS
from tests.benchmarks.measuring import cpu_s, make_table, run_chunk, run_stock

TASK = TASKS["carrot_on_plate"]
STOCK = "PutCarrotOnPlateInScene-v1"
CHUNK = 4
FAR = 30
N_ROUNDS = 7


def make_actions(seed, n):
    actions = np.random.default_rng(seed).uniform(-0.01, 0.01, (n, 7)).astype(np.float32)
    actions[:, 6] = 1
    return actions


def measure_round(env, stock, index):
    """Return the times [s] of one round, by name."""
    actions = make_actions(index, CHUNK)
    times = {
        "reset": cpu_s(lambda: env.reset(index)),
        "stock reset": cpu_s(
            lambda: stock.reset(options={"episode_id": index, "reconfigure": True})
        ),
        "step": cpu_s(lambda: run_chunk(env, actions)) / CHUNK,
        "stock step": cpu_s(lambda: run_stock(stock, actions)) / CHUNK,
        "image": cpu_s(env.observe),
        "snapshot": cpu_s(env.snapshot),
    }
    times["step without image"] = cpu_s(lambda: [env.step(each) for each in actions]) / CHUNK
    for action in make_actions(index, FAR - 2 * CHUNK):
        env.step(action)
    snapshot = env.snapshot()
    env.step(actions[0])
    times["restore"] = cpu_s(lambda: env.restore(snapshot))
    times["restore, one step on"] = measure_leading_on(env, snapshot, actions[0])
    return times


def measure_leading_on(env, snapshot, action):
    """Return the time [s] to restore a state that is one step ahead."""
    env.step(action)
    ahead = env.snapshot()
    env.restore(snapshot)
    return cpu_s(lambda: env.restore(ahead))


def main():
    env = SimplerEnv(TASK)
    stock = gymnasium.make(
        STOCK,
        obs_mode="rgb+segmentation",
        num_envs=1,
        render_backend="cpu",
        sim_backend="physx_cpu",
    )
    rounds = [measure_round(env, stock, index) for index in track(range(N_ROUNDS + 1))]
    # The first round compiles the shaders.
    times = {name: median(each[name] for each in rounds[1:]) for name in rounds[0]}
    table = make_table("CPU time, medians", "", "ours", "ManiSkill", "ratio")
    for name in ("reset", "step"):
        ours, theirs = times[name], times[f"stock {name}"]
        table.add_row(
            name, f"{1000 * ours:.0f} ms", f"{1000 * theirs:.0f} ms", f"{theirs / ours:.1f}"
        )
    parts = make_table("parts of ours, in steps without an image", "", "time", "ratio")
    step_s = times["step without image"]
    for name in ("step without image", "image", "snapshot", "restore, one step on", "restore"):
        label = f"{name} of step {FAR}" if name == "restore" else name
        parts.add_row(label, f"{1000 * times[name]:.1f} ms", f"{times[name] / step_s:.1f}")
    Console().print(table, parts)
    env.close()
    stock.close()


if __name__ == "__main__":
    main()
