"""Measures an evaluation against a plain implementation and against the sum of its parts.

    uv run python -m tests.benchmarks.evaluation --episodes 30

Times are CPU times of this process (all threads), as a median over episodes. Every variant runs on
the same episodes with the same actions. The variants take turns, so that noise of the machine
affects all of them.

- harness: `run_episode` and the write to the run folder, as `eval` does it.
- bare: physics, the renders that the policy needs and its forward passes, nothing else.
- plain: the same episode with both cameras rendered at every step, from the original meshes at
  MuJoCo's default quality (shadows, 4 samples a pixel).
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import mujoco
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from skimage.metrics import structural_similarity

from eval.config import EvalConfig
from eval.episode_row import make_row
from eval.evaluation import set_up
from eval.provenance import describe
from eval.run_folder import RunFolder
from sim.env import episode_rng
from sim.flags import make_config
from sim.so101.pick_place import PickPlace
from sim.so101.scene_config import DEFAULT_SCENE
from tests.benchmarks.measuring import cpu_s
from tests.recordings import roll_out

DEFAULT_QUALITY = replace(
    DEFAULT_SCENE, mesh_cell_m=0.0, shadows=True, msaa_samples=4, supersampling=1
)


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark.

    Attributes:
        plain_episodes: number of episodes of the plain variant, which take half a minute each.
    """

    episodes: int = 30
    plain_episodes: int = 3


def run_harness(setup, index, run):
    record = roll_out(setup, index)
    run.append(record, make_row(record))
    return record


def replay(setup, env, record, look_at_every_step):
    """Replay the recorded episode with bare MuJoCo calls.

    Observations and forward passes happen at the same steps as in the recording.
    """
    model = env.model
    data = env.data
    policy = setup.policy
    env.reset(record.episode_index)
    memory = policy.reset()
    actions = record.arrays.action.astype(np.float64)
    ctrl = np.clip(env.units.to_rad(actions), *model.actuator_ctrlrange.T)
    n_substeps = round(env.spec.control_dt_s / env.spec.physics_dt_s)
    decisions = set(record.arrays.prediction_step.tolist())
    for step, target in enumerate(ctrl):
        if step in decisions or look_at_every_step:
            memory.observations.append(env.observe())
        if step in decisions:
            rng = episode_rng(env.spec.task, record.episode_index, 0)
            policy.predict([memory], [rng])
        data.ctrl[:] = target
        mujoco.mj_step(model, data, n_substeps)


def print_ssim(console):
    """Print the SSIM of light against original meshes, all else equal, as a mean over episodes."""
    for height, width in ((64, 64), (480, 640)):
        for camera in ("overhead_cam", "wrist_cam"):
            scores = []
            sizes = {camera: (height, width)}
            original = replace(DEFAULT_SCENE, mesh_cell_m=0.0)
            envs = [
                PickPlace("so101/pick_place", config, image_sizes=sizes)
                for config in (DEFAULT_SCENE, original)
            ]
            for index in range(3):
                for env in envs:
                    env.reset(index)
                images = [env.observe().images[camera] for env in envs]
                scores.append(structural_similarity(*images, channel_axis=-1))
            for env in envs:
                env.close()
            console.print(
                f"SSIM of light against original meshes, {camera} {width}x{height}: "
                f"{np.mean(scores):.3f}"
            )


def main(benchmark):
    console = Console()
    config = make_config(EvalConfig, policy="act")
    setup = set_up(config)
    plain_env = PickPlace(
        "so101/pick_place", DEFAULT_QUALITY, image_sizes=setup.policy.spec.image_sizes
    )
    harness_s = []
    bare_s = []
    plain_s = []
    speed_ups = []
    records = []
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder), describe(config, setup))
        run_harness(setup, 0, run)
        for index in range(benchmark.episodes):
            harness_s.append(cpu_s(lambda i=index: records.append(run_harness(setup, i, run))))
            bare_s.append(
                cpu_s(
                    lambda: replay(
                        setup,
                        setup.env,
                        records[-1],
                        False,
                    )
                )
            )
            if index < benchmark.plain_episodes:
                plain_s.append(
                    cpu_s(
                        lambda: replay(
                            setup,
                            plain_env,
                            records[-1],
                            True,
                        )
                    )
                )
                speed_ups.append(plain_s[-1] / harness_s[-1])
        run.close()
    # The ratio is taken for each episode: the machine's drift between episodes is larger than the
    # cost of the harness.
    overhead = median(h / b for h, b in zip(harness_s, bare_s, strict=True))
    counts = f"{benchmark.episodes} (plain: {benchmark.plain_episodes})"
    title = f"CPU time an episode, median of {counts}"
    table = Table("variant", "CPU s", "ratio", title=title)
    table.add_row("bare", f"{median(bare_s):.3f}", "1")
    table.add_row("harness", f"{median(harness_s):.3f}", f"{overhead:.3f} x bare")
    table.add_row(
        "plain",
        f"{median(plain_s):.2f}",
        f"{median(speed_ups):.1f} x harness",
    )
    console.print(table)
    print_ssim(console)
    plain_env.close()
    setup.env.close()


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
