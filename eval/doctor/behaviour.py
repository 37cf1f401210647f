"""Checks of the policy's behaviour in a handful of predictions."""

from dataclasses import replace
from functools import partial

import numpy as np

from eval.doctor.check_context import (
    PATIENCE_S,
    CheckContext,
    ObservationChange,
    change_observations,
    image_change,
)
from eval.doctor.finding import Findings, fail, fine, unknown, warn

# In tenths of the actuators' range: a smaller change of the plan is rounding.
_LEAST_CHANGE = 1e-4


def check_reset(context: CheckContext) -> Findings:
    """Check that an episode begins with the same plan again after another episode."""
    first = context.first_plan
    context.predict(context.observe_reset(context.first_episodes(2)[-1]))
    again = context.predict(context.observe_reset(0))[0]
    difference = float(np.abs(first - again).max())
    evidence = f"first plans of episode 0 differ by {difference:.3g}"
    if not difference > 0:
        yield fine("reset", "two identical episodes begin with the same plan", "bit by bit")
    elif context.policy.seedable is False:
        who = "the server draws" if context.policy.server else "the policy draws"
        yield warn(
            "reset",
            f"{who} from its own random generators, as it declares",
            evidence,
            "Its numbers hold only for many episodes: no single episode can be repeated.",
        )
    else:
        yield fail(
            "reset",
            "two identical episodes begin with different plans",
            evidence,
            (
                "The policy keeps something of the last episode: check its reset, a queue, "
                "or a global random generator."
            ),
        )


def check_sensitivity(context: CheckContext) -> Findings:
    """Check that the plan changes with every input; an input that changes nothing is ignored."""
    changes = _input_changes(context)
    cost_s = context.prediction_s * len(changes)
    if cost_s > PATIENCE_S:
        yield unknown(
            "sensitivity",
            "not tried: a prediction takes too long",
            f"{cost_s:.0f} s in all",
        )
        return
    memory = context.first_memory
    effects = []
    ignored = []
    for name, change in changes.items():
        plan = context.predict(change_observations(memory, change))[0]
        difference = np.abs(plan - context.first_plan)
        effect = float((difference / context.action_scale).max())
        effects.append(f"{name} {effect:.2g}")
        if effect < _LEAST_CHANGE:
            ignored.append(name)
    for name in ignored:
        change_made = "inverted" if name in memory.present.images else "another one"
        yield warn(
            "sensitivity",
            f"the policy ignores its {name}",
            f"the plan does not change when it is {change_made}",
            "Either the policy learned not to use it, or the input never reaches the network.",
        )
    yield fine(
        "sensitivity",
        f"{len(changes) - len(ignored)} of {len(changes)} inputs matter",
        f"largest change of the plan, in tenths of the actuators' range: {', '.join(effects)}",
    )


def _input_changes(context: CheckContext) -> dict[str, ObservationChange]:
    """Return a noticeable change for each input of the policy, by its name."""
    spec = context.policy
    present = context.first_memory.present
    changes = {camera: image_change(camera, lambda image: 255 - image) for camera in present.images}
    if spec.state_dim is not None:
        step = np.array(_state_scale(context), dtype=np.float32)
        changes["state"] = lambda o: replace(o, state=o.state + step)
    if spec.reads_instruction:
        # The environment's other instructions have words that the training had too.
        other = context.env.opposite_instruction(present.instruction)
        words = other if other != present.instruction else "Do nothing."
        changes["instruction"] = partial(replace, instruction=words)
    return changes


def check_plan_range(context: CheckContext) -> Findings:
    """Check that the first plan stays in the actuators' range."""
    plan = context.first_plan[: context.n_compared]
    spec = context.action
    low = np.array(spec.low)
    high = np.array(spec.high)
    margin = 0.01 * (high - low)
    is_outside = (plan < low - margin) | (plan > high + margin)
    worst = int(is_outside.mean(axis=0).argmax())
    share = is_outside.any(axis=1).mean()
    evidence = f"{share:.0%} of the steps, most often {spec.names[worst]}"
    if share > 0.5:
        yield warn(
            "planned actions",
            "the first plan leaves the actuators' range",
            evidence,
            "They would be clipped: compare units, and the statistics of the postprocessor.",
        )
    else:
        yield fine("planned actions", "the first plan stays in the actuators' range", evidence)


def check_reachability(context: CheckContext) -> Findings:
    """Check that the arm can reach the end-effector targets of the first plan.

    If it cannot, the inverse kinematics fails, and not the policy alone.
    """
    check = "inverse kinematics"
    env = context.setup.env
    context.observe_reset(0)
    results = [env.step(action) for action in context.first_plan[: context.n_compared]]
    errors_m = [result.ik_error_m for result in results if result.ik_error_m is not None]
    if not errors_m:
        return
    failed = np.mean([result.ik_failed for result in results])
    mean_mm = 1000 * np.mean(errors_m)
    evidence = f"{failed:.0%} of the first plan's steps fail, mean error {mean_mm:.1f} mm"
    if failed <= 0.25:
        yield fine(check, "the first plan is within reach", evidence)
        return
    yield warn(
        check,
        "much of the first plan is out of reach",
        evidence,
        (
            "Compare frame, units and rotation format with the training's; "
            "the row's ik_failure_rate counts these steps."
        ),
    )


def _state_scale(context: CheckContext) -> np.ndarray:
    """Return a noticeable difference in each state number: the training's std, or 1."""
    n = len(context.env.state_names)
    state = context.statistics.state
    if not state or state.typical is None:
        return np.ones(n)
    return np.maximum(state.typical[1][:n], 1e-3)
