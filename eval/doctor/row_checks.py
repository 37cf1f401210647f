"""Checks of a run's rows: crashes, outcomes, inverse kinematics, and the number of episodes."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from eval.doctor.early_success import describe_episode
from eval.doctor.finding import Finding, fail, fine, unknown, warn
from eval.episode_row import Rows
from eval.outcome import Outcome
from eval.proportions import compute_wilson_interval
from eval.run import Run
from eval.start_region import StartRegion, find_start_region
from eval.statistics import count_stages, summarise
from sim.errors import WhiskerError

# With fewer episodes, even ten of ten successes are not distinguishable from three of four: at 10
# the Wilson interval is up to 0.53 wide.
FEW_EPISODES = 10

# Shares of the control steps. The solver reaches all that the scripted expert asks for.
IK_WARNING = 0.05
IK_ERROR = 0.25

# It is a pattern if this many episodes have no success, and this share of them fails at one stage.
PATTERN_EPISODES = 3
PATTERN_SHARE = 0.80

# Significance level for a region that was tested on other episodes than it was found on, corrected
# for several tasks (Bonferroni).
_SIGNIFICANT = 0.05

# What to check if the episodes fail at this stage.
STAGE_HINTS = {
    "reached": "The gripper does not come to the object: look at the cameras (swapped, flipped, "
    "another view), the units of state and action, and n_action_steps.",
    "grasped": "The gripper comes to the object and does not hold it: look at its range, and at "
    "where it closes.",
    "lifted": "The object is held and not lifted: look at when, and how far, the gripper closes.",
    "over_goal": "The object is lifted and lost: look at the gripper on the way.",
    "released": "The object is brought and not let go: look at how far the gripper opens, and at "
    "the horizon.",
    "placed": "The object is let go and does not rest in the goal: look at where it is let go.",
}


def check_crashes(rows: Rows) -> Finding:
    """Check for crashed episodes.

    They are not in the denominator of the success rate, and the other episodes may be the easy
    ones.
    """
    crashed = [row for row in rows if not row.is_judged]
    evidence = f"{len(crashed)} of {len(rows)} episodes crashed"
    if not crashed:
        return fine("crashes", "every episode ran to its end", evidence)
    report = fail if 2 * len(crashed) > len(rows) else warn
    first = crashed[0]
    return report(
        "crashes",
        "episodes crashed and are in no rate: the success rate is that of the others",
        f"{evidence}; the first, {describe_episode(first, rows)}: {first.error}",
        "Repair the cause and run again.",
    )


def check_n_episodes(rows: Rows) -> Finding:
    """Check that there are enough episodes to know the success rate."""
    check = "number of episodes"
    summary = summarise(rows)
    low, high = summary.success_interval
    evidence = (
        f"{summary.n_success} of {summary.n_judged} succeed: 95 % Wilson interval "
        f"{100 * low:.0f} % to {100 * high:.0f} %, {100 * (high - low):.0f} points wide"
    )
    if summary.n_judged >= FEW_EPISODES:
        return fine(check, "there are enough episodes for a rate", evidence)
    return warn(
        check,
        "too few episodes for a rate",
        evidence,
        (
            f"Run at least {FEW_EPISODES}; to compare two policies, "
            "run 50 and more on the same episodes."
        ),
    )


def check_inverse_kinematics(rows: Rows) -> Finding:
    """Check how often the solver missed the pose that the policy asked for.

    The solver and the policy share the responsibility for such a failure.
    """
    check = "inverse kinematics"
    rate = summarise(rows).ik_failure_rate
    if np.isnan(rate):
        return fine(check, "inverse kinematics is not used", "the actions are not poses")
    errors_mm = [row.ik_error_mm for row in rows if row.is_judged and row.ik_error_mm is not None]
    evidence = (
        f"missed in {100 * rate:.1f} % of the steps, "
        f"by {np.mean(errors_mm):.1f} mm in the mean over all steps"
    )
    if rate <= IK_WARNING:
        return fine(check, "inverse kinematics reaches what the policy asks for", evidence)
    report = fail if rate > IK_ERROR else warn
    return report(
        check,
        (
            "inverse kinematics does not reach what the policy asks for: "
            "these failures are not the policy's alone"
        ),
        evidence,
        (
            "Check frame, units and order of the pose, "
            "and that the training set is of this robot and its base."
        ),
    )


def check_outcomes(rows: Rows, old_rules: str = "") -> Finding:
    """Look for a stage at which all episodes fail, and say what went wrong there, and when.

    Args:
        old_rules: remark on rows whose outcomes were decided by older rules.
    """
    judged = [row for row in rows if row.is_judged]
    outcomes = Counter(row.outcome for row in judged)
    failed_stages = Counter(row.failed_stage for row in judged if row.failed_stage is not None)
    evidence = _describe_outcomes(judged, outcomes, failed_stages)
    if old_rules:
        evidence += f"; {old_rules}"
    n_failures = sum(row.is_failure for row in judged)
    if not n_failures:
        return fine("outcomes", "every episode succeeds", evidence)
    if not failed_stages:
        return fine(
            "outcomes",
            f"{n_failures} of {len(judged)} episodes fail, at goals without stages",
            evidence,
        )
    stage, n = failed_stages.most_common(1)[0]
    finding = f"{n} of {failed_stages.total()} failures are at the stage {stage!r}"
    is_pattern = len(judged) >= PATTERN_EPISODES and n >= PATTERN_SHARE * len(judged)
    if outcomes[Outcome.SUCCESS] or not is_pattern:
        return fine("outcomes", finding, evidence)
    return warn(
        "outcomes",
        f"no episode succeeds, and {finding}",
        evidence,
        STAGE_HINTS.get(stage, "One cause for all is likely."),
    )


def _describe_outcomes(
    judged: Rows,
    outcomes: Counter[str],
    failed_stages: Counter[str],
) -> str:
    parts = [", ".join(f"{n} {outcome}" for outcome, n in outcomes.most_common())]
    strange = dict.fromkeys(row.outcome for row in judged if not row.is_known)
    if strange:
        parts.append(f"this version does not know {', '.join(strange)}")
    passed = count_stages(judged)
    for kind in dict.fromkeys(count.kind for count in passed):
        of_kind = [count for count in passed if count.kind == kind]
        named = ", ".join(f"{count.stage} {count.n_through}" for count in of_kind)
        parts.append(f"of {of_kind[0].n_episodes}, came through {named}")
    if judged and not passed:
        parts.append("no stages")
    if failed_stages:
        named = ", ".join(f"{stage} {n}" for stage, n in failed_stages.most_common())
        parts.append(f"first stage not met: {named}")
    events = _describe_events(judged)
    if events:
        parts.append(f"what went wrong: {events}")
    return "; ".join(parts)


def _describe_events(rows: Rows) -> str:
    """Return the decisive events of the failures, most frequent first, with their median steps."""
    steps: dict[str, list[int]] = {}
    for row in rows:
        if not row.success and row.decisive_event is not None and row.decisive_step is not None:
            steps.setdefault(row.decisive_event, []).append(row.decisive_step)
    by_frequency = sorted(steps.items(), key=lambda item: -len(item[1]))
    return ", ".join(
        f"{event} {len(at)} (median step {np.median(at):.0f})" for event, at in by_frequency
    )


def describe_rate(n_success: int, n: int) -> str:
    """Return a count with its Wilson interval, e.g. "3 of 10 (11 % to 60 %)"."""
    low, high = compute_wilson_interval(n_success, n)
    return f"{n_success} of {n} ({100 * low:.0f} % to {100 * high:.0f} %)"


def describe_start_region(run: Run) -> str:
    """Return where the object has to begin for the policy to succeed, in one sentence.

    It is "" if success does not depend on that, or the arrays are missing.
    """
    judged = [row for row in run.rows if row.is_judged]
    try:
        paths = [run.load_array(row, "object_pos_world") for row in judged]
    except WhiskerError:  # The rate is right without the arrays.
        return ""
    starts = [path[0] for path in paths if path is not None]
    finding = check_start_region(judged, starts if len(starts) == len(paths) else [])
    if not finding.is_problem:
        return ""
    return f"{finding.finding[:1].upper()}{finding.finding[1:]}: {finding.evidence}."


def check_start_region(rows: Rows, starts: Sequence[Float[np.ndarray, "3"]]) -> Finding:
    """Look for start positions of the object from which the policy succeeds more often.

    Args:
        starts: the object's position at the start of each row's episode, m; empty if the goals
            concern no object.
    """
    check = "start"
    if not starts:
        return unknown(check, "the goals are about no object", f"{len(rows)} episodes")
    regions = _find_regions(rows, starts)
    if not regions:
        return unknown(
            check,
            "too few successes or failures to tell whether it matters",
            f"{sum(row.success for row in rows)} of {len(rows)} succeed",
        )
    task, best = min(regions.items(), key=lambda item: item[1].p_value)
    where = best.describe(("x", "y"), "m")
    inside, outside = (f"{good} of {n}" for good, n in (best.inside, best.outside))
    evidence = (
        f"{task}: {inside} succeed where the object begins at {where}, {outside} elsewhere; "
        f"p = {best.p_value:.2g} on the {best.n_tested} episodes that this was not found on"
    )
    if best.p_value * len(regions) > _SIGNIFICANT:
        return unknown(
            check,
            "not shown that success depends on where the object begins",
            evidence,
        )
    return warn(
        check,
        "success depends on where the object begins",
        evidence,
        (
            "Record more demonstrations that begin elsewhere, "
            "and compare what the cameras show of it there."
        ),
    )


def _find_regions(rows: Rows, starts: Sequence[Float[np.ndarray, "3"]]) -> dict[str, StartRegion]:
    """Return the region of each task in which the policy succeeds more often, if one is found."""
    regions = {}
    for task in dict.fromkeys(row.task for row in rows):
        chosen = [i for i, row in enumerate(rows) if row.task == task]
        chosen.sort(key=lambda i: rows[i].episode_index)
        places = np.stack([starts[i][:2] for i in chosen])
        succeeded = np.array([rows[i].success for i in chosen])
        region = find_start_region(places, succeeded)
        if region is not None:
            regions[task] = region
    return regions
