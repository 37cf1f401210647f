"""A wrapper has exactly its environment's capabilities, and errors name the missing one."""

import numpy as np
import pytest

from eval.config import DoctorConfig
from eval.doctor.check_context import CheckContext
from eval.doctor.scene_checks import check_expert, check_rest
from eval.evaluation import Setup
from eval.run import Run
from policies.baselines import RandomPolicy, ScriptedPolicy
from sim.capabilities import (
    CAPABILITIES,
    Drawable,
    HasExpert,
    HasLooseObjects,
    NamesRenderer,
    SettableStart,
    Snapshots,
    provides,
    require,
)
from sim.env import Env
from sim.env_names import FAMILIES, load_family
from sim.errors import WhiskerError
from sim.flags import make_config
from sim.process import EnvProcess
from sim.user_code import import_attribute
from sim.wrapper import EnvWrapper
from tests.point_env import Point
from tests.runs import load_whiskers
from tests.without import Without, make_bare_point
from viz.native import show_native
from viz.observation_override import ObservationOverride
from viz.page import export_episode, find_row
from viz.replay import read_body_poses
from viz.report.film_strips import make_film_strips
from viz.video import draw_step


def capabilities_of(env):
    return {capability for capability in CAPABILITIES if provides(env, capability)}


class OnlySnapshot(EnvWrapper):
    """Has `snapshot` but no `restore`."""

    def __init__(self):
        super().__init__(make_bare_point())

    def snapshot(self):
        return np.zeros(1)


def test_a_capability_is_there_as_a_whole_or_not_at_all():
    everything = {
        Snapshots,
        Drawable,
        HasExpert,
        NamesRenderer,
        HasLooseObjects,
        SettableStart,
    }
    assert capabilities_of(Point()) == everything
    assert capabilities_of(Without(Point(), Drawable)) == everything - {Drawable}
    assert capabilities_of(make_bare_point()) == set() == capabilities_of(OnlySnapshot())


def test_a_wrapper_has_what_is_inside_it():
    for lost in (set(), {Snapshots}, {Drawable, HasExpert}, set(CAPABILITIES)):
        inside = Without(Point(), *lost)
        for wrapped in (EnvWrapper(inside), ObservationOverride(EnvWrapper(inside))):
            assert capabilities_of(wrapped) == set(CAPABILITIES) - lost and isinstance(wrapped, Env)


def test_a_process_has_what_is_inside_it():
    bare = EnvProcess(make_bare_point)
    whole = EnvProcess(Point)
    assert capabilities_of(bare) == set() and capabilities_of(whole) == set(CAPABILITIES)
    bare.reset(103)
    (progress,) = bare.step(np.ones(2)).progress
    assert progress.measures == {"distance_m": np.hypot(104, 1)}
    assert bare.observe().state.tolist() == bare.state().tolist() == [104, 1]
    bare.close()
    whole.close()
    # Capabilities do not depend on a running process.
    assert capabilities_of(whole) == set(CAPABILITIES)


def test_what_is_missing_is_said_in_one_sentence():
    assert require(point := Point(), Snapshots, "whiskers") is point
    with pytest.raises(WhiskerError) as refused:
        require(make_bare_point(), Snapshots, "whiskers")
    assert str(refused.value) == (
        "whiskers in 'point': expected an environment with the capability 'snapshots' "
        "(restore, simulate_ee_path, snapshot), "
        "got one without."
    )
    with pytest.raises(
        WhiskerError, match=r"policy 'scripted' in 'point': .* 'a scripted expert' \(make_expert\)"
    ):
        ScriptedPolicy(make_bare_point())


def test_the_doctor_does_without():
    env = make_bare_point()
    setup = Setup(
        env,
        RandomPolicy(env),
        None,
        1,
        10,
        {"point": "point"},
    )
    context = CheckContext(make_config(DoctorConfig, policy="random"), setup)
    assert context.reference is None
    (rest,) = check_rest(context)
    (expert,) = check_expert(context)
    assert (rest.check, rest.level) == ("scene at rest", "unknown")
    assert (expert.check, expert.level) == ("scripted expert", "unknown")
    assert "loose objects" in rest.evidence


@pytest.fixture
def replay_without(failed_run, monkeypatch):
    """Return a function that removes a capability from the environment of `failed_run`.

    Replays of its episodes then lack that capability.
    """
    open_env = Run.open_env

    def take_away(lost):
        monkeypatch.setattr(
            Run,
            "open_env",
            lambda *asked: Without(open_env(*asked), lost),
        )
        run = Run.open(failed_run)
        return run, find_row(run, 8)

    return take_away


@pytest.mark.parametrize(
    ("lost", "what", "draw"),
    [
        (Snapshots, "whiskers", lambda run, row, path: load_whiskers(run, row)),
        (Snapshots, "whiskers", export_episode),
        (
            Drawable,
            "a film with whiskers",
            lambda run, row, path: draw_step(
                run,
                row,
                3,
                path,
            ),
        ),
        (Drawable, "whiskers --native", lambda run, row, path: show_native(run, row)),
    ],
)
def test_a_picture_needs_what_it_shows(lost, what, draw, replay_without, tmp_path, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    run, row = replay_without(lost)
    needs = f"capability '{lost.__name__.lower()}'"
    with pytest.raises(WhiskerError, match=f"{what} in 'so101/pick_place': .*{needs}"):
        draw(run, row, tmp_path / "x.html")
    strips = make_film_strips(run)
    assert not strips.strips and needs in " ".join(strips.remarks)


def test_what_cannot_be_drawn_has_one_body_at_the_origin():
    assert read_body_poses(make_bare_point()).tolist() == [[0, 0, 0, 1, 0, 0, 0]]


ENV_CLASSES = {
    "so101": "sim.so101.pick_place:PickPlace",
    "robosuite": "sim.robosuite_tasks.env:RobosuiteTaskEnv",
    "simpler": "sim.simpler_bench.env:SimplerEnv",
    "libero": "sim.libero_bench.env:LiberoEnv",
}


def test_families_declare_what_their_environments_can_do():
    """`eval --list-envs` shows it without a simulator; here the classes themselves are asked."""
    assert FAMILIES.keys() == ENV_CLASSES.keys()
    for name, source in FAMILIES.items():
        family = load_family(source)
        env_class = import_attribute(name, ENV_CLASSES[name])
        assert bool(family.snapshots) == provides(env_class, Snapshots), name
        assert family.is_drawable == provides(env_class, Drawable), name
        assert family.has_expert == provides(env_class, HasExpert), name
