"""Checks of the machine, and of the number of steps that an evaluation executes."""

import os
import shutil
import sys
from pathlib import Path

from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Findings, fine, unknown, warn
from sim.registry import family_of

# The arrays of an episode take about 0.3 MB, and a video 0.3 MB; a run of a few hundred must fit.
_LEAST_FREE_GB = 1.0
_BOX = "━┃✓"
# A published number was rarely measured with a whole chunk of this duration executed blindly.
_BLIND_S = 0.8
# What such a number was often measured with. A chunk that is no longer is meant to be executed.
_FEWER_STEPS = 10
# A policy that predicts much more often than in training restarts its plan before it gets anywhere.
_HASTY_SHARE = 0.25
# The policy is given little time if the limit is below this multiple of the expert's steps.
_LITTLE_TIME = 1.3


def check_gl(context: CheckContext) -> Findings:
    """Check that the rendering backend works beside the policy's device."""
    spec = context.policy
    backend = os.environ.get("MUJOCO_GL", "")
    evidence = f"MUJOCO_GL={backend}"
    if not spec.image_sizes:
        yield fine("GL backend", "nothing is rendered", evidence)
    elif family_of(context.env.name).in_own_process:
        yield fine("GL backend", "renders, in a process of its own", evidence)
    elif backend == "egl" and spec.device.startswith("cuda"):
        finding = "EGL and CUDA share this process, which can abort it"
        evidence += f", device {spec.device}"
        yield warn(
            "GL backend",
            finding,
            evidence,
            "Set MUJOCO_GL=osmesa.",
        )
    else:
        yield fine("GL backend", "renders", evidence)


def check_disk(context: CheckContext) -> Findings:
    """Check that a run fits on the disk."""
    folder = Path(getattr(context.config, "run_dir", Path("runs"))).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    if free_gb < _LEAST_FREE_GB:
        yield warn(
            "disk space",
            "nearly full",
            f"{free_gb:.1f} GB free",
            "Free some space, or choose another --run-dir.",
        )
    else:
        yield fine("disk space", "enough", f"{free_gb:.0f} GB free")


def check_console(context: CheckContext) -> Findings:
    """Check that the console can print the characters of progress bars and tables."""
    del context
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        _BOX.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        yield warn(
            "console encoding",
            "cannot print every character",
            encoding,
            "Set PYTHONUTF8=1: libraries that print such characters fail to load a model here.",
        )
        return
    yield fine("console encoding", "prints every character", encoding)


def check_action_steps(context: CheckContext) -> Findings:
    """Check how many actions of a chunk are executed before the next prediction."""
    check = "n_action_steps"
    spec = context.policy
    n = context.setup.n_action_steps
    duration_s = n * context.env.control_dt_s
    source = "checkpoint" if spec.checkpoint else "policy"
    evidence = (
        f"{n} of {spec.chunk_size} actions = {duration_s:.2f} s; "
        f"the {source} says {spec.n_action_steps}"
    )
    is_long = n == spec.chunk_size > _FEWER_STEPS
    if is_long and duration_s >= _BLIND_S:
        asked = f"the {source} says"
        if context.config.rollout.n_action_steps is not None:
            asked = "--n-action-steps asks"
        yield warn(
            check,
            f"the whole chunk is executed before the policy observes again, as {asked}",
            evidence,
            f"Compare with fewer: --n-action-steps {_FEWER_STEPS}. "
            "On LIBERO 50 instead of 10 costs 20 points.",
        )
    elif n < _HASTY_SHARE * spec.n_action_steps:
        yield warn(
            check,
            f"far fewer actions are executed than the {source} was tuned for",
            evidence,
            (
                "Leave --n-action-steps out, or compare both: "
                "1, 2 or 5 can give 0 % where 20 gives 100 %."
            ),
        )
    else:
        part = "the whole" if n == spec.chunk_size else "a part"
        yield fine(
            check,
            f"{part} of the chunk is executed before the policy observes again",
            evidence,
        )


def check_horizon(context: CheckContext) -> Findings:
    """Check that the episodes are long enough for the scripted expert, and for a slower policy."""
    check = "horizon"
    max_steps = context.setup.max_steps
    reference = context.reference
    evidence = f"{max_steps} steps"
    if reference is None or not reference.success:
        which = "to compare with" if reference is None else "that does the task here"
        yield unknown(check, f"no scripted expert {which}", evidence)
        return
    evidence += f"; the scripted expert takes {reference.n_steps}"
    if max_steps < reference.n_steps:
        yield warn(
            check,
            "even the expert does not finish in time",
            evidence,
            "Give a longer --max-steps.",
        )
    elif max_steps < _LITTLE_TIME * reference.n_steps:
        yield warn(
            check,
            "the policy has little more time than the expert takes",
            evidence,
            "A policy is slower than the expert: compare with a longer --max-steps.",
        )
    else:
        yield fine(check, "enough time", evidence)
