"""What the rows of a run say: crashes, outcomes, inverse kinematics, and how much so many episodes can tell."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from eval.doctor.finding import Finding, Level
from eval.episode_row import EpisodeRow
from eval.outcome import Outcome
from eval.proportions import compute_wilson_interval
from eval.recorder import EpisodeArrays
from eval.run import Run
from eval.start_region import find_start_region
from eval.statistics import count_stages, summarise
from sim.errors import WhiskerError

# Fewer, and even ten of ten is not told from three of four: at 10 the Wilson interval is up to 0.53
# wide.
FEW_EPISODES = 10

# Shares of the control steps. The solver reaches all that the scripted expert asks for.
IK_WARNING, IK_ERROR = 0.05, 0.25

# A pick, a carry and a release take the scripted expert 3.6 s at least.
SHORTEST_SUCCESS_S = 1.0
# An object that moved less than this was not brought anywhere, nor a joint that moved less of its
# way.
UNMOVED_M, UNMOVED_JOINT = 0.01, 0.1

# No success, and in so many episodes this share of the failures at one stage, is a pattern.
PATTERN_EPISODES, PATTERN_SHARE = 3, 0.80

# Of a region that was tested on other episodes than it was found on, corrected for several tasks
# (Bonferroni).
_SIGNIFICANT = 0.05

# Where to look when the episodes fail at this stage.
STAGE_HINTS = {
    "reached": "The gripper does not come to the object: look at the cameras (swapped, flipped, another view), the "
    "units of state and action, and n_action_steps.",
    "grasped": "The gripper comes to the object and does not hold it: look at its range, and at where it closes.",
    "lifted": "The object is held and not lifted: look at when, and how far, the gripper closes.",
    "over_goal": "The object is lifted and lost: look at the gripper on the way.",
    "released": "The object is brought and not let go: look at how far the gripper opens, and at the horizon.",
    "placed": "The object is let go and does not rest in the goal: look at where it is let go.",
}


def check_crashes(rows: Sequence[EpisodeRow]) -> Finding:
    """Episodes that crashed are not in the denominator: what is left may be the easy ones."""
    crashed = [row for row in rows if not row.is_judged]
    evidence = f"{len(crashed)} of {len(rows)} episodes crashed"
    if not crashed:
        return Finding("crashes", Level.OK, "every episode ran to its end", evidence)
    return Finding(
        "crashes",
        Level.ERROR if 2 * len(crashed) > len(rows) else Level.WARNING,
        "episodes crashed and are in no rate: the success rate is that of the others",
        f"{evidence}; the first, {_name(crashed[0], rows)}: {crashed[0].error}",
        "Repair the cause and run again.",
    )


def check_n_episodes(rows: Sequence[EpisodeRow]) -> Finding:
    """How far the success rate is known."""
    summary = summarise(rows)
    low, high = summary.success_interval
    evidence = (
        f"{summary.n_success} of {summary.n_judged} succeed: 95 % Wilson interval {100 * low:.0f} % to "
        f"{100 * high:.0f} %, {100 * (high - low):.0f} points wide"
    )
    if summary.n_judged >= FEW_EPISODES:
        return Finding(
            "number of episodes", Level.OK, "there are enough episodes for a rate", evidence
        )
    return Finding(
        "number of episodes",
        Level.WARNING,
        "too few episodes for a rate",
        evidence,
        f"Run at least {FEW_EPISODES}; to tell two policies apart, 50 and more on the same episodes.",
    )


def check_inverse_kinematics(rows: Sequence[EpisodeRow]) -> Finding:
    """How often the solver missed what the policy asked for: a failure of the two together, not of the policy."""
    check = "inverse kinematics"
    judged = [row for row in rows if row.is_judged]
    rate = summarise(rows).ik_failure_rate
    errors_mm = [row.ik_error_mm for row in judged if row.ik_error_mm is not None]
    if np.isnan(rate):
        return Finding(
            check, Level.OK, "no inverse kinematics in between", "the actions are no poses"
        )
    evidence = f"missed in {100 * rate:.1f} % of the steps, by {np.mean(errors_mm):.1f} mm in the mean over all steps"
    if rate <= IK_WARNING:
        return Finding(
            check, Level.OK, "inverse kinematics reaches what the policy asks for", evidence
        )
    return Finding(
        check,
        Level.ERROR if rate > IK_ERROR else Level.WARNING,
        "inverse kinematics does not reach what the policy asks for: these failures are not the policy's alone",
        evidence,
        "Check frame, units and order of the pose, and that the training set is of this robot and its base.",
    )


def check_outcomes(rows: Sequence[EpisodeRow], old_rules: str = "") -> Finding:
    """Look for a stage at which all episodes fail, and say what went wrong there, and when.

    Args:
        old_rules: remark on rows whose outcomes older rules made.
    """
    judged = [row for row in rows if row.is_judged]
    counts = Counter(row.outcome for row in judged)
    failures = [row for row in judged if row.is_failure]
    stages = Counter(row.failed_stage for row in judged if row.failed_stage is not None)
    evidence = ", ".join(f"{n} {outcome}" for outcome, n in counts.most_common())
    unknown = [row.outcome for row in judged if not row.is_known]
    if unknown:
        evidence += f"; this version does not know {', '.join(dict.fromkeys(unknown))}"
    through = count_stages(judged)
    for kind in dict.fromkeys(count.kind for count in through):
        of_kind = [count for count in through if count.kind == kind]
        named = ", ".join(f"{count.stage} {count.n_through}" for count in of_kind)
        evidence += f"; of {of_kind[0].n_episodes}, came through {named}"
    if judged and not through:
        evidence += "; no stages"
    if stages:
        evidence += "; first stage not met: " + ", ".join(
            f"{stage} {n}" for stage, n in stages.most_common()
        )
    evidence += _describe_events(judged)
    if old_rules:
        evidence += f"; {old_rules}"
    if not failures:
        return Finding("outcomes", Level.OK, "every episode succeeds", evidence)
    if not stages:
        where = f"{len(failures)} of {len(judged)} episodes fail, at goals without stages"
        return Finding("outcomes", Level.OK, where, evidence)
    stage, n = stages.most_common(1)[0]
    where = f"{n} of {stages.total()} failures are at the stage {stage!r}"
    if counts[Outcome.SUCCESS] or len(judged) < PATTERN_EPISODES or n < PATTERN_SHARE * len(judged):
        return Finding("outcomes", Level.OK, where, evidence)
    hint = STAGE_HINTS.get(stage, "One cause for all is likely.")
    return Finding("outcomes", Level.WARNING, f"no episode succeeds, and {where}", evidence, hint)


def _describe_events(rows: Sequence[EpisodeRow]) -> str:
    """Return what went wrong in the failures, the most frequent first, each with its median step."""
    steps: dict[str, list[int]] = {}
    for row in rows:
        if not row.success and row.decisive_event is not None and row.decisive_step is not None:
            steps.setdefault(row.decisive_event, []).append(row.decisive_step)
    if not steps:
        return ""
    by_frequency = sorted(steps.items(), key=lambda item: -len(item[1]))
    said = (f"{event} {len(at)} (median step {np.median(at):.0f})" for event, at in by_frequency)
    return "; what went wrong: " + ", ".join(said)


def check_early_success(
    rows: Sequence[EpisodeRow], episodes: Sequence[EpisodeArrays], control_dt_s: float
) -> Finding:
    """Successes in which nothing was brought anywhere, or faster than an arm can.

    Args:
        episodes: the arrays of `rows`, in the same order.
    """
    successes = [(row, episode) for row, episode in zip(rows, episodes, strict=True) if row.success]
    suspects, least_s = [], np.inf
    for row, episode in successes:
        duration_s = len(episode.action) * control_dt_s
        least_s = min(least_s, duration_s)
        motion, is_enough = _describe_motion(row, episode)
        if not is_enough or duration_s < SHORTEST_SUCCESS_S:
            suspects.append(f"{_name(row, rows)} after {duration_s:.2f} s, {motion}")
    n_success = len(successes)
    if not n_success:
        return Finding("early success", Level.UNKNOWN, "no success to look at", "0 successes")
    if not suspects:
        evidence = f"{n_success} successes: the shortest {least_s:.1f} s"
        return Finding(
            "early success",
            Level.OK,
            "each success took an arm's time and moved something",
            evidence,
        )
    return Finding(
        "early success",
        Level.ERROR,
        "episodes succeed without the policy: at reset, or with nothing moved",
        f"{len(suspects)} of {n_success} successes; {'; '.join(suspects[:3])}",
        "The task's success condition holds at the start: look at its initial states.",
    )


def describe_rate(n_success: int, n: int) -> str:
    """A count with its interval, e.g. "3 of 10 (11 % to 60 %)"."""
    low, high = compute_wilson_interval(n_success, n)
    return f"{n_success} of {n} ({100 * low:.0f} % to {100 * high:.0f} %)"


def _describe_motion(row: EpisodeRow, episode: EpisodeArrays) -> tuple[str, bool]:
    """How far that moved which the goal is about, in words, and whether it is enough for a success."""
    if episode.joint_progress is not None and row.final_joint_progress is not None:
        share = float(np.ptp(episode.joint_progress))
        return f"joint moved {100 * share:.0f} % of the way", share >= UNMOVED_JOINT
    what, path = "object", episode.object_pos_world
    if path is None or not episode.is_of_pick_and_place:
        what, path = "tool", episode.ee_pos_world
    way_m = float(np.linalg.norm(path - path[0], axis=1).max())
    return f"{what} moved {way_m:.3f} m", way_m >= UNMOVED_M


def _name(row: EpisodeRow, rows: Sequence[EpisodeRow]) -> str:
    """An episode, and its task where there are several."""
    has_tasks = any(other.task != row.task for other in rows)
    return f"episode {row.episode_index}" + (f" of {row.task!r}" if has_tasks else "")


def describe_start_region(run: Run) -> str:
    """Return one sentence on where the object has to begin for the policy to succeed; "" where that is not shown."""
    judged = [row for row in run.rows if row.is_judged]
    starts = []
    for row in judged:
        try:
            path = run.load_array(row, "object_pos_world")
        except WhiskerError:  # The rate is right without the arrays.
            return ""
        if path is None:
            return ""
        starts.append(path[0])
    finding = check_start_region(judged, starts)
    said = f"{finding.finding[:1].upper()}{finding.finding[1:]}: {finding.evidence}."
    return said if finding.is_ill else ""


def check_start_region(
    rows: Sequence[EpisodeRow], starts: Sequence[Float[np.ndarray, "3"]]
) -> Finding:
    """Look for places at which the policy succeeds more often if the object begins there.

    Args:
        starts: where it began in the episode of each row, m; empty if the goals are about no
            object.
    """
    check, found = "start", []
    if not starts:
        return Finding(
            check, Level.UNKNOWN, "the goals are about no object", f"{len(rows)} episodes"
        )
    for task in dict.fromkeys(row.task for row in rows):
        of_task = sorted((row.episode_index, i) for i, row in enumerate(rows) if row.task == task)
        chosen = [i for _, i in of_task]
        places = np.stack([starts[i][:2] for i in chosen])
        region = find_start_region(places, np.array([rows[i].success for i in chosen]))
        found += [] if region is None else [(task, region)]
    if not found:
        evidence = f"{sum(row.success for row in rows)} of {len(rows)} succeed"
        return Finding(
            check,
            Level.UNKNOWN,
            "too few successes or failures to tell whether it matters",
            evidence,
        )
    task, best = min(found, key=lambda item: item[1].p_value)
    where = best.describe(("x", "y"), "m")
    inside, outside = ("{} of {}".format(*count) for count in (best.inside, best.outside))
    evidence = (
        f"{task}: {inside} succeed where the object begins at {where}, {outside} elsewhere; "
        f"p = {best.p_value:.2g} on the {best.n_tested} episodes that this was not found on"
    )
    if best.p_value * len(found) > _SIGNIFICANT:
        return Finding(
            check,
            Level.UNKNOWN,
            "not shown that success depends on where the object begins",
            evidence,
        )
    hint = "Record more demonstrations that begin elsewhere, and compare what the cameras show of it there."
    return Finding(
        check, Level.WARNING, "success depends on where the object begins", evidence, hint
    )
