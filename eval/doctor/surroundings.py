"""Checks of the machine and of how far the evaluation is told to go."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Finding, Level
from sim.registry import family_of

# An episode's arrays take about 0.3 MB, a film 0.3 MB; a run of a few hundred must fit.
_LEAST_FREE_GB = 1.0
_BOX = "━┃✓"
# A whole chunk executed blindly for this long is rarely what a published number was measured with.
_BLIND_S = 0.8
# Predicting much more often than in training restarts a plan before it has led anywhere.
_HASTY_SHARE = 0.25


def check_gl(context: CheckContext) -> Iterator[Finding]:
    backend = os.environ.get("MUJOCO_GL", "")
    if not context.setup.policy.spec.image_sizes:
        yield Finding("GL backend", Level.OK, "nothing is rendered", f"MUJOCO_GL={backend}")
    elif family_of(context.env.name).in_own_process:
        yield Finding(
            "GL backend", Level.OK, "renders, in a process of its own", f"MUJOCO_GL={backend}"
        )
    elif backend == "egl" and context.setup.policy.spec.device.startswith("cuda"):
        yield Finding(
            "GL backend",
            Level.WARNING,
            "EGL and CUDA share this process, which can abort it",
            f"MUJOCO_GL={backend}, device {context.setup.policy.spec.device}",
            "Set MUJOCO_GL=osmesa.",
        )
    else:
        yield Finding("GL backend", Level.OK, "renders", f"MUJOCO_GL={backend}")


def check_disk(context: CheckContext) -> Iterator[Finding]:
    folder = Path(getattr(context.config, "run_dir", Path("runs"))).absolute()
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free_gb = shutil.disk_usage(place).free / 1e9
    if free_gb < _LEAST_FREE_GB:
        hint = "Free some space, or choose another --run-dir."
        yield Finding("disk space", Level.WARNING, "nearly full", f"{free_gb:.1f} GB free", hint)
    else:
        yield Finding("disk space", Level.OK, "enough", f"{free_gb:.0f} GB free")


def check_console(context: CheckContext) -> Iterator[Finding]:
    del context
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        _BOX.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        hint = "Set PYTHONUTF8=1: libraries that print such characters fail to load a model here."
        yield Finding(
            "console encoding", Level.WARNING, "cannot print every character", encoding, hint
        )
        return
    yield Finding("console encoding", Level.OK, "prints every character", encoding)


def check_action_steps(context: CheckContext) -> Iterator[Finding]:
    spec, n, dt_s = (
        context.setup.policy.spec,
        context.setup.n_action_steps,
        context.env.control_dt_s,
    )
    said_by = "checkpoint" if spec.checkpoint else "policy"
    evidence = f"{n} of {spec.chunk_size} actions = {n * dt_s:.2f} s; the {said_by} says {spec.n_action_steps}"
    if n == spec.chunk_size > 1 and n * dt_s >= _BLIND_S:
        asked = (
            f"the {said_by} says"
            if context.config.rollout.n_action_steps is None
            else "--n-action-steps asks"
        )
        yield Finding(
            "n_action_steps",
            Level.WARNING,
            f"the whole chunk is executed before the policy looks again, as {asked}",
            evidence,
            "Compare with fewer: --n-action-steps 10. On LIBERO 50 instead of 10 costs 20 points.",
        )
    elif n < _HASTY_SHARE * spec.n_action_steps:
        yield Finding(
            "n_action_steps",
            Level.WARNING,
            f"far fewer actions are executed than the {said_by} was tuned for",
            evidence,
            "Leave --n-action-steps out, or compare both: 1, 2 or 5 can give 0 % where 20 gives 100 %.",
        )
    else:
        yield Finding(
            "n_action_steps",
            Level.OK,
            "a part of the chunk is executed, then the policy looks",
            evidence,
        )


def check_horizon(context: CheckContext) -> Iterator[Finding]:
    horizon, reference = context.setup.max_steps, context.reference
    if reference is None:
        yield Finding(
            "horizon", Level.UNKNOWN, "no scripted expert to compare with", f"{horizon} steps"
        )
        return
    if not reference.success:
        yield Finding(
            "horizon",
            Level.UNKNOWN,
            "no scripted expert that does the task here",
            f"{horizon} steps",
        )
        return
    evidence = f"{horizon} steps; the scripted expert takes {reference.n_steps}"
    if horizon < reference.n_steps:
        hint = "Give a longer --max-steps."
        yield Finding(
            "horizon", Level.WARNING, "even the expert is not done in time", evidence, hint
        )
    elif horizon < 1.3 * reference.n_steps:
        hint = "A policy is slower than the expert: compare with a longer --max-steps."
        yield Finding(
            "horizon", Level.WARNING, "little more time than the expert takes", evidence, hint
        )
    else:
        yield Finding("horizon", Level.OK, "enough time", evidence)
