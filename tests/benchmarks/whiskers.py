"""Measures whiskers against their bare physics and against MuJoCo's own drawing.

    uv run python -m tests.benchmarks.whiskers

Times are CPU times of this process (all threads). Both sides of a ratio take turns, so that noise
of the machine affects both, and the ratio is the median of their ratios.

- simulate: `simulate_chunk` of a 50-step chunk on the SO-101, against `mj_step` of the same
  controls in as many substeps from the same state. The limit is 1.3.
- film: an image of `film_whiskers` at 640x480 with its share of building, simulating and encoding,
  against one of `mujoco.Renderer` at default quality, from the original meshes, with the whiskers
  as capsules. The limit is a 15th.
"""

import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import mujoco
import numpy as np
from rich.console import Console
from rich.table import Table

from eval.config import EvalConfig
from eval.run import Run
from sim.flags import make_config
from sim.forward_simulation import simulate_chunk
from sim.registry import make_env
from sim.so101.pick_place import PickPlace
from sim.so101.scene_config import DEFAULT_SCENE, VIEWER_CAMERA
from tests.benchmarks.measuring import cpu_s
from tests.recordings import record_run
from viz.episode_film import MAIN_SIZE
from viz.overlay import compute_overlay
from viz.overlay_style import LINES
from viz.video import film_whiskers
from viz.whiskers import compute_whiskers

DEFAULT_QUALITY = replace(
    DEFAULT_SCENE, mesh_cell_m=0.0, shadows=True, msaa_samples=4, supersampling=1
)
N_ROUNDS = 60
N_PLAIN_IMAGES = 5
HORIZON = 50
N_CAPSULES = 513
CAPSULE_RADIUS_M = 0.002


def simulate_bare(env, snapshot, ctrl):
    env.restore(snapshot)
    n_substeps = round(env.spec.control_dt_s / env.spec.physics_dt_s)
    for target in ctrl:
        env.data.ctrl[:] = target
        mujoco.mj_step(env.model, env.data, n_substeps)


def load_only_episode(run):
    opened = Run.open(run)
    (row,) = opened.rows
    return row, opened.load_arrays(row)


def measure_simulation(run):
    """Return (ours, bare) [s] of the 50 actions that followed each of several moments."""
    _, arrays = load_only_episode(run)
    env = make_env("so101/pick_place", image_sizes={})
    times = []
    for step in np.linspace(0, len(arrays.action) - HORIZON, N_ROUNDS).astype(int):
        chunk = arrays.action[step : step + HORIZON]
        snapshot = arrays.step_snapshot[step]
        ctrl = np.clip(env.units.to_rad(chunk.astype(np.float64)), *env.model.actuator_ctrlrange.T)
        # An untimed simulation first warms the caches for both sides.
        simulate_bare(env, snapshot, ctrl)
        ours_s = cpu_s(lambda s=snapshot, c=chunk: simulate_chunk(env, s, c))
        times.append((ours_s, cpu_s(lambda s=snapshot, c=ctrl: simulate_bare(env, s, c))))
    env.close()
    return times


def add_capsules(scene, path, rgb):
    for start, end in pairwise(path):
        if scene.ngeom == scene.maxgeom:
            return
        geom = scene.geoms[scene.ngeom]
        colour = np.array([*np.array(rgb) / 255, 1], np.float32)
        capsule = mujoco.mjtGeom.mjGEOM_CAPSULE
        mujoco.mjv_initGeom(
            geom,
            capsule,
            np.zeros(3),
            np.zeros(3),
            np.eye(3).ravel(),
            colour,
        )
        mujoco.mjv_connector(
            geom,
            capsule,
            CAPSULE_RADIUS_M,
            start,
            end,
        )
        scene.ngeom += 1


class PlainFilm:
    """MuJoCo's renderer with default settings; its scene has the plan in force and its ghosts."""

    def __init__(self, arrays):
        self._env = PickPlace("so101/pick_place", DEFAULT_QUALITY, image_sizes={})
        self._arrays = arrays
        self._whiskers = compute_whiskers(self._env, arrays)
        self._renderer = mujoco.Renderer(self._env.model, *MAIN_SIZE)

    def draw(self, step):
        self._env.restore(self._arrays.step_snapshot[step])
        self._renderer.update_scene(self._env.data, camera=VIEWER_CAMERA)
        overlay = compute_overlay(self._whiskers, self._arrays, step)
        scene = self._renderer.scene
        n_before = scene.ngeom
        add_capsules(scene, overlay.plan, LINES["plan"].colour)
        for ghost in overlay.ghosts:
            add_capsules(scene, ghost, LINES["ghost"].colour)
        scene.ngeom = min(scene.ngeom, n_before + N_CAPSULES)
        return self._renderer.render()

    def close(self):
        self._renderer.close()
        self._env.close()


def measure_film(run, film):
    """Return (ours, plain) [s] an image.

    Ours includes its share of building the environment, simulating and encoding. Plain includes
    only the rendering.
    """
    row, arrays = load_only_episode(run)
    n_images = len(arrays.step_snapshot)
    plain = PlainFilm(arrays)
    steps = np.linspace(n_images // 2, n_images - 1, N_PLAIN_IMAGES).astype(int).tolist()
    plain.draw(steps[0])
    times = []
    for step in steps:
        film_s = cpu_s(lambda: film_whiskers(Run.open(run), row, film)) / n_images
        times.append((film_s, cpu_s(lambda s=step: plain.draw(s))))
    plain.close()
    return times


def main():
    table = Table(
        "what",
        "ours",
        "theirs",
        "ratio",
        title="whiskers, CPU time",
    )

    def add(name, per, ratio, times):
        ours_ms, theirs_ms = (1000 * median(side) for side in zip(*times, strict=True))
        table.add_row(
            name,
            f"{ours_ms:.2f} ms {per}",
            f"{theirs_ms:.2f} ms",
            ratio,
        )

    # The policy plans every five steps, so that ghosts exist.
    config = make_config(
        EvalConfig,
        policy="act",
        n_action_steps=5,
        episodes=1,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = record_run(config, Path(folder)).path
        simulated = measure_simulation(run)
        filmed = measure_film(run, Path(folder) / "film.mp4")
    slower = median(ours_s / bare_s for ours_s, bare_s in simulated)
    faster = median(plain_s / ours_s for ours_s, plain_s in filmed)
    add(
        "simulate, bare physics",
        "a chunk",
        f"{slower:.2f} x",
        simulated,
    )
    add(
        "film, mujoco.Renderer",
        "an image",
        f"{faster:.1f} x faster",
        filmed,
    )
    Console().print(table)


if __name__ == "__main__":
    main()
