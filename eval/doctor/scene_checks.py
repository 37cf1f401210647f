"""Checks of the scene: nothing is done at the start, nothing falls over by itself, and the task can be done."""

from collections import Counter
from collections.abc import Iterator, Sequence

from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Finding, Level
from sim.capabilities import HasLooseObjects, provides
from sim.env import WATCH_S, LooseObject
from sim.registry import family_of

_N_EPISODES = 3
# In 18,581 of the 18,650 initial states of LIBERO, under its own physics, no object exceeds these
# (docs/scenes.md).
_AT_REST_M_S, _AT_REST_DRIFT_M = 0.05, 0.005


def check_start(context: CheckContext) -> Iterator[Finding]:
    """Check that no episode begins with its goals met: it would be a success in which nothing was done."""
    env, looked_at = context.setup.env, context.first_episodes(_N_EPISODES)
    done: list[int] = []
    held: Counter[str] = Counter()
    for episode_index in looked_at:
        env.reset(episode_index)
        met = [
            goal.name for goal, now in zip(env.spec.goals, env.progress(), strict=True) if now.met
        ]
        held.update(met)
        done += [episode_index] if env.spec.goals and len(met) == len(env.spec.goals) else []
    named = ", ".join(map(str, looked_at))
    if done:
        hint = "Its initial states are wrong: every goal holds before the first step."
        yield Finding(
            "start", Level.ERROR, "episodes begin at the goal", f"episodes {done} of {named}", hint
        )
    elif held:
        evidence = "; ".join(
            f"{goal!r} in {n} of {len(looked_at)} episodes" for goal, n in held.items()
        )
        hint = "Nothing has to be done for this part of the task: a success says nothing about it."
        yield Finding(
            "start", Level.WARNING, "some goals hold before the first step", evidence, hint
        )
    else:
        yield Finding("start", Level.OK, "no goal holds at the start", f"episodes {named}")


def check_rest(context: CheckContext) -> Iterator[Finding]:
    """Check that every loose object lies still when the policy first looks, in any scene, without a reference."""
    env, looked_at = context.setup.env, context.first_episodes(_N_EPISODES)
    if not provides(env, HasLooseObjects):
        evidence = "the environment has no capability 'loose objects'"
        yield Finding("scene at rest", Level.UNKNOWN, "it was not watched", evidence)
        return
    restless: dict[str, list[LooseObject]] = {}
    n_objects = 0
    for episode_index in looked_at:
        env.reset(episode_index)
        objects = env.loose_objects()
        n_objects = len(objects)
        for thing in objects:
            if thing.speed_m_s > _AT_REST_M_S or thing.drift_m > _AT_REST_DRIFT_M:
                restless.setdefault(thing.name, []).append(thing)
    if restless:
        evidence = "; ".join(
            f"{_describe(moments)} of {len(looked_at)} episodes" for moments in restless.values()
        )
        hint = "Begin where the objects lie still, or let them settle first: the policy sees a scene in motion."
        yield Finding(
            "scene at rest", Level.WARNING, "objects move before anything is done", evidence, hint
        )
    else:
        evidence = f"{n_objects} objects in episodes {', '.join(map(str, looked_at))}"
        yield Finding(
            "scene at rest",
            Level.OK,
            "every object lies still when the policy first looks",
            evidence,
        )


def check_expert(context: CheckContext) -> Iterator[Finding]:
    """Check that the scripted expert can do the task here.

    Where it fails, a policy may fail for the same reason.
    """
    reference = context.reference
    if reference is None:
        yield Finding(
            "scripted expert",
            Level.UNKNOWN,
            "there is none that could show that the task can be done",
        )
        return
    evidence = f"episode 0, {reference.n_steps} steps"
    if reference.success:
        yield Finding("scripted expert", Level.OK, "does the task", evidence)
    elif not family_of(context.env.name).has_expert_for_all:
        yield Finding("scripted expert", Level.OK, "has no way with this task", evidence)
    else:
        hint = (
            "Possible reasons: gravity, the object's mass or friction, or a place out of reach. "
            f"Watch it: eval --policy scripted --env {context.env.name} --episodes 1 --video all"
        )
        if reference.missed_stage:
            evidence += f"; the first stage that it does not meet: {reference.missed_stage!r}"
        yield Finding(
            "scripted expert",
            Level.WARNING,
            "even it does not do the task in this scene",
            evidence,
            hint,
        )


def _describe(moments: Sequence[LooseObject]) -> str:
    """Describe the worst of the moments in which one object moves."""
    worst = max(moments, key=lambda moment: moment.drift_m)
    motion = f"{worst.speed_m_s:.2f} m/s, {100 * worst.drift_m:.1f} cm in the next {WATCH_S} s"
    return f"{worst.name!r}, {worst.pos_world[2]:.2f} m high: {motion}, in {len(moments)}"
