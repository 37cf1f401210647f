"""Checks of what the policy does: a handful of predictions."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from eval.doctor.check_context import PATIENCE_S, CheckContext, changed, changed_camera
from eval.doctor.finding import Finding, Level
from sim.observation import Observation

# Of the plan, in tenths of the actuators' range: less is rounding.
_LEAST_CHANGE = 1e-4


def check_reset(context: CheckContext) -> Iterator[Finding]:
    """Two identical episodes begin with identical plans, whatever came between."""
    first = context.first_plan
    context.predict(context.look(context.first_episodes(2)[-1]))
    again = context.predict(context.look(0))[0]
    difference = float(np.abs(first - again).max())
    if difference > 0 and context.setup.policy.spec.seedable is False:
        hint = "Its numbers hold for many episodes only: no episode of it can be repeated."
        finding = "the policy draws from generators of its own, as it declares"
        yield Finding(
            "reset",
            Level.WARNING,
            finding,
            f"first plans of episode 0 differ by {difference:.3g}",
            hint,
        )
    elif difference > 0:
        hint = "Something of the last episode is left in the policy: its reset, or a queue, or a global random generator."
        evidence = f"first plans of episode 0 differ by {difference:.3g}"
        yield Finding(
            "reset",
            Level.ERROR,
            "two identical episodes begin with different plans",
            evidence,
            hint,
        )
    else:
        yield Finding(
            "reset", Level.OK, "two identical episodes begin with the same plan", "bit by bit"
        )


def check_sensitivity(context: CheckContext) -> Iterator[Finding]:
    """Does the plan change when an input does? An input that changes nothing is not looked at."""
    spec, memory = context.setup.policy.spec, context.first_memory
    state_step = np.array(_state_scale(context), dtype=np.float32)
    changes: dict[str, Callable[[Observation], Observation]] = {
        camera: changed_camera(camera, lambda image: 255 - image)
        for camera in memory.present.images
    }
    if spec.state_dim is not None:
        changes["state"] = lambda o: replace(o, state=o.state + state_step)
    if spec.reads_instruction:
        # Words that training had, where there are others.
        other = context.env.opposite_instruction(memory.present.instruction)
        words = other if other != memory.present.instruction else "Do nothing."
        changes["instruction"] = lambda o: replace(o, instruction=words)
    cost_s = context.prediction_s * len(changes)
    if cost_s > PATIENCE_S:
        yield Finding(
            "sensitivity",
            Level.UNKNOWN,
            "not tried: a prediction takes too long",
            f"{cost_s:.0f} s in all",
        )
        return
    effects, ignored = [], []
    for name, change in changes.items():
        plan = context.predict(changed(memory, change))[0]
        effect = float((np.abs(plan - context.first_plan) / context.action_scale).max())
        effects.append(f"{name} {effect:.2g}")
        ignored += [name] if effect < _LEAST_CHANGE else []
    for name in ignored:
        hint = "A policy that learned to do without it, or an input that never reaches the network."
        evidence = "the plan does not change when it is " + (
            "inverted" if name in memory.present.images else "another"
        )
        yield Finding(
            "sensitivity", Level.WARNING, f"the policy ignores its {name}", evidence, hint
        )
    evidence = "largest change of the plan, in tenths of the actuators' range: " + ", ".join(
        effects
    )
    yield Finding(
        "sensitivity",
        Level.OK,
        f"{len(changes) - len(ignored)} of {len(changes)} inputs matter",
        evidence,
    )


def check_plan_range(context: CheckContext) -> Iterator[Finding]:
    """The first plan against the actuators' range and the present joints."""
    plan, spec = context.first_plan[: context.n_compared], context.action
    low, high = np.array(spec.low), np.array(spec.high)
    outside = (plan < low - 0.01 * (high - low)) | (plan > high + 0.01 * (high - low))
    worst = int(outside.mean(axis=0).argmax())
    evidence = f"{outside.any(axis=1).mean():.0%} of the steps, most often {spec.names[worst]}"
    if outside.any(axis=1).mean() > 0.5:
        hint = "They would be clipped: compare units, and the statistics of the postprocessor."
        yield Finding(
            "planned actions",
            Level.WARNING,
            "the first plan leaves the actuators' range",
            evidence,
            hint,
        )
    else:
        yield Finding(
            "planned actions", Level.OK, "the first plan stays in the actuators' range", evidence
        )


def check_reachability(context: CheckContext) -> Iterator[Finding]:
    """End-effector targets that the arm cannot reach are no fault of the policy."""
    env = context.setup.env
    context.look(0)
    results = [env.step(action) for action in context.first_plan[: context.n_compared]]
    errors = [result.ik_error_m for result in results if result.ik_error_m is not None]
    if not errors:
        return
    failed = np.mean([result.ik_failed for result in results])
    evidence = (
        f"{failed:.0%} of the first plan's steps fail, mean error {1000 * np.mean(errors):.1f} mm"
    )
    if failed > 0.25:
        hint = "Compare frame, units and rotation format with the training's; the row's ik_failure_rate counts them."
        yield Finding(
            "inverse kinematics",
            Level.WARNING,
            "much of the first plan is out of reach",
            evidence,
            hint,
        )
    else:
        yield Finding("inverse kinematics", Level.OK, "the first plan is within reach", evidence)


def _state_scale(context: CheckContext) -> np.ndarray:
    """A noticeable difference in each number of the state: the training's standard deviation, or one."""
    n = len(context.env.state_names)
    state = context.normalisation and context.normalisation.state
    return (
        np.ones(n) if not state or state.typical is None else np.maximum(state.typical[1][:n], 1e-3)
    )
