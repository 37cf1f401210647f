"""Checks of the scene: no goal holds at the start, objects are at rest, the task is possible."""

from collections import Counter
from collections.abc import Sequence

from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Findings, fail, fine, unknown, warn
from sim.capabilities import HasLooseObjects, provides
from sim.env import WATCH_S, LooseObject
from sim.registry import family_of

_N_EPISODES = 3
# In 18,581 of the 18,650 initial states of LIBERO, under its own physics, no object exceeds these
# (docs/scenes.md).
_AT_REST_M_S = 0.05
_AT_REST_DRIFT_M = 0.005


def check_start(context: CheckContext) -> Findings:
    """Check that no episode begins with its goals met, which would be a success of no action."""
    env = context.setup.env
    episodes = context.first_episodes(_N_EPISODES)
    done: list[int] = []
    n_episodes_met: Counter[str] = Counter()
    for episode_index in episodes:
        env.reset(episode_index)
        goals = env.spec.goals
        progress = zip(goals, env.progress(), strict=True)
        met = [goal.name for goal, now in progress if now.met]
        n_episodes_met.update(met)
        if goals and len(met) == len(goals):
            done.append(episode_index)
    named = ", ".join(map(str, episodes))
    if done:
        yield fail(
            "start",
            "episodes begin at the goal",
            f"episodes {done} of {named}",
            "Its initial states are wrong: every goal holds before the first step.",
        )
    elif n_episodes_met:
        counts = [
            f"{goal!r} in {n} of {len(episodes)} episodes" for goal, n in n_episodes_met.items()
        ]
        yield warn(
            "start",
            "some goals hold before the first step",
            "; ".join(counts),
            "This part of the task needs no action, so a success says nothing about it.",
        )
    else:
        yield fine("start", "no goal holds at the start", f"episodes {named}")


def check_rest(context: CheckContext) -> Findings:
    """Check that every loose object is at rest in the first observation."""
    env = context.setup.env
    episodes = context.first_episodes(_N_EPISODES)
    if not provides(env, HasLooseObjects):
        evidence = "the environment has no capability 'loose objects'"
        yield unknown("scene at rest", "the objects were not watched", evidence)
        return
    moving: dict[str, list[LooseObject]] = {}
    n_objects = 0
    for episode_index in episodes:
        env.reset(episode_index)
        objects = env.loose_objects()
        n_objects = len(objects)
        for loose in objects:
            if loose.speed_m_s > _AT_REST_M_S or loose.drift_m > _AT_REST_DRIFT_M:
                moving.setdefault(loose.name, []).append(loose)
    if moving:
        described = [f"{_describe(seen)} of {len(episodes)} episodes" for seen in moving.values()]
        reason = family_of(env.spec.name).why_objects_settle
        if reason:
            finding = f"objects settle at the start, {reason}"
            yield fine("scene at rest", finding, "; ".join(described))
            return
        yield warn(
            "scene at rest",
            "objects move before anything is done",
            "; ".join(described),
            (
                "Begin with the objects at rest, or let them settle first: "
                "the policy observes a scene in motion."
            ),
        )
    else:
        evidence = f"{n_objects} objects in episodes {', '.join(map(str, episodes))}"
        yield fine("scene at rest", "every object is at rest in the first observation", evidence)


def check_expert(context: CheckContext) -> Findings:
    """Check that the scripted expert can do the task here.

    If it fails, a policy may fail for the same reason.
    """
    check = "scripted expert"
    reference = context.reference
    if reference is None:
        yield unknown(check, "there is no expert that could show that the task can be done")
        return
    evidence = f"episode 0, {reference.n_steps} steps"
    if reference.success:
        yield fine(check, "does the task", evidence)
    elif not family_of(context.env.name).has_expert_for_all:
        yield fine(check, "does not cover this task", evidence)
    else:
        if reference.missed_stage:
            evidence += f"; the first stage that it does not meet: {reference.missed_stage!r}"
        yield warn(
            check,
            "even the expert does not do the task in this scene",
            evidence,
            (
                "Possible reasons: gravity, the object's mass or friction, "
                "or a place out of reach. Watch it: eval --policy scripted "
                f"--env {context.env.name} --episodes 1 --video all"
            ),
        )


def _describe(moments: Sequence[LooseObject]) -> str:
    """Describe how one object moves in the worst of its episodes."""
    worst = max(moments, key=lambda moment: moment.drift_m)
    drift_cm = 100 * worst.drift_m
    motion = f"{worst.speed_m_s:.2f} m/s, {drift_cm:.1f} cm in the next {WATCH_S} s"
    return f"{worst.name!r}, {worst.pos_world[2]:.2f} m high: {motion}, in {len(moments)}"
