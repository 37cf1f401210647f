"""Tests that policies of every kind load through one function.

These include the user's own policies from a folder outside the project.
"""

import json
import re
import shutil
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from eval.cli import main_doctor
from eval.config import EvalConfig, SubjectConfig
from eval.evaluation import follow_task, set_up
from eval.run import Run
from eval.subject import with_absolute_paths
from policies.adapters import AdaptedPolicy
from policies.loading import find_loader, load_policy
from policies.policy import make_memory
from policies.simple_policy import SimplePolicy
from sim.env import episode_rng
from sim.errors import UnknownNameError, WhiskerError
from sim.flags import make_config, replace_flags
from sim.registry import make_env
from tests.json_files import edited_json

TOY = Path(__file__).parent / "outside" / "toy_policy.py"
SHORT = ("--env", "so101/pick_place", "--no-doctor", "--episodes", 1, "--max-steps", 20)
ENTRY_POINT = "[whisker.policies]\nnodding = toy_policy:make\n"


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """Yield a folder outside the project that has the toy policy and is the current folder.

    Its modules are forgotten afterwards.
    """
    known = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "outside"
    folder.mkdir()
    shutil.copy(TOY, folder)
    monkeypatch.chdir(folder)
    yield folder
    for name in set(sys.modules) - known:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def installed(tmp_path, outside, monkeypatch):
    """Install the toy policy as a package with an entry point, and change to another folder."""
    info = outside / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINT)
    monkeypatch.syspath_prepend(outside)
    monkeypatch.chdir(tmp_path)


def write(folder, name, text):
    (folder / f"{name}.py").write_text(f"from policies.simple_policy import SimplePolicy\n{text}\n")
    return f"{name}:make"


def check_run(run_dir, name):
    """Check that the run names its policy and recorded what the policy plans.

    The policy is asked for its plans once more.
    """
    (path,) = run_dir.iterdir()
    assert path.name.endswith("-nodding-so101-pick_place")
    run = Run.open(path)
    spec = run.description.policy
    config = run.description.config
    assert spec.type == "nodding"
    assert config.policy.name == name
    assert spec.action_mode == "absolute"
    assert spec.gripper_range == (0, 100)
    assert spec.seedable
    assert not (spec.has_network or spec.is_baseline or spec.follows_env)
    arrays = run.load_arrays(run.rows[0])
    assert arrays.prediction_step.tolist() == [0, 4, 8, 12, 16]
    assert run.rows[0].error == ""
    with closing(make_env("so101/pick_place", {"overhead_cam": (48, 48)})) as env:
        policy = load_policy(name, env)
        env.reset(0)
        for index in range(2):
            plan = policy.plan(env.observe(), episode_rng(env.spec.task, 0, index))
            assert_array_equal(arrays.chunk[index], plan)
            for action in plan[:4]:
                env.step(action.astype(np.float32))
    assert "nodding" in (path / "report.html").read_text()
    return path


def test_a_policy_outside_the_project_runs_by_import_string_and_goes_on(
    outside, tmp_path, eval_here
):
    runs = tmp_path / "runs"
    ran = eval_here("--policy", "toy_policy:make", *SHORT, "--run-dir", runs)
    assert ran.returncode == 0, ran.stderr
    assert "toy_policy:make in so101/pick_place: 0.0 % success (0 of 1" in ran.stdout
    path = check_run(runs, "toy_policy:make")
    assert eval_here("--resume", path, "--quiet").returncode == 0
    with edited_json(path / "run.json") as written:
        written["policy"]["chunk_size"] = 9
    assert "policy.chunk_size: expected 9, got 8" in eval_here("--resume", path, "--quiet").stderr


@pytest.mark.usefixtures("installed")
def test_a_policy_of_an_installed_package_runs_by_its_entry_point(tmp_path, eval_here):
    runs = tmp_path / "runs"
    ran = eval_here("--policy", "nodding", "--samples", 3, *SHORT, "--run-dir", runs)
    assert ran.returncode == 0, ran.stderr
    run = Run.open(check_run(runs, "nodding"))
    arrays = run.load_arrays(run.rows[0])
    alternatives = arrays.alternative_chunk
    assert alternatives.shape == (5, 3, 8, 6)
    assert_array_equal(alternatives[:, 0], arrays.chunk)
    assert (alternatives[:, 1] != arrays.chunk).any(axis=(1, 2)).all()
    with pytest.raises(UnknownNameError, match="Did you mean 'nodding'"):
        find_loader("noding")


@pytest.fixture
def examine(monkeypatch, capsys):
    """Return a function that examines a policy and returns the exit code and level by check."""

    def examine(name):
        command = f"eval-doctor --policy {name} --env so101/pick_place --json"
        monkeypatch.setattr("sys.argv", command.split())
        code = main_doctor()
        findings = json.loads(capsys.readouterr().out)
        return code, {finding["check"]: finding["level"] for finding in findings}

    return examine


@pytest.mark.usefixtures("outside")
def test_the_doctor_makes_every_check_that_needs_no_network(examine):
    code, levels = examine("toy_policy:make")
    assert code == 0
    assert levels.keys() >= {
        "reset",
        "pictures",
        "sensitivity",
        "planned actions",
        "horizon",
        "agreement",
        "inputs",
    }
    assert not levels.keys() & {
        "weights",
        "statistics",
        "image sizes",
        "normalised observation",
        "origin",
    }


@pytest.mark.parametrize(("more", "level"), [("", "error"), (", seedable=False", "warning")])
def test_the_doctor_finds_what_is_wrong_with_it(outside, examine, more, level):
    text = (
        "class P(SimplePolicy):\n    n = 0\n    def plan(self, o, rng):\n"
        "        P.n += 1\n        return o.state + P.n\n"
        "def make(env, checkpoint, device):\n"
        f"    return P('odd', env, image_sizes={{'wrist_cam': (32, 32)}}{more})"
    )
    code, levels = examine(write(outside, "odd", text))
    assert code in (1, 2)
    assert levels["reset"] == level


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "make = 3",
            r"--policy own:make: expected a function of \(env, checkpoint, device\), got a int",
        ),
        (
            "def make(env): ...",
            r"expected a function of \(env, checkpoint, device\), got one of \(env\)",
        ),
        (
            "def make(env, checkpoint, device): ...",
            r"a policies\.policy\.Policy, got 'NoneType' without spec, reset, pre",
        ),
        (
            "def make(**_): return 1 / 0",
            "a factory that does not fail, got ZeroDivisionError: division by zero",
        ),
        (
            "def make(env, **_):\n    p = SimplePolicy('x', env); p.spec = 'x'; return p",
            "with a PolicySpec, got a spec 'x'",
        ),
        (
            "def make(env, **_): return SimplePolicy(' ', env)",
            "a policy whose spec names its type, got ' '",
        ),
        (
            "def make(env, **_): return SimplePolicy('x', env, image_sizes={'top': (8, 8)})",
            r"cameras of policy 'x' \(\) in 'so101/pick_place': "
            r"expected top, got overhead_cam, wrist_cam",
        ),
        (
            "def make(env, **_): return SimplePolicy('x', env, action_dim=7)",
            r"expected \(horizon, 6\).*got \(1, 7\)",
        ),
        (
            "def make(env, **_): "
            "return SimplePolicy('x', env, rotation_frame='tool', action_mode='delta')",
            r"conventions of policy 'x' in 'so101/pick_place': "
            r"expected .*absolute actions; rotation frame 'none'.*"
            r"got what the policy declares \(delta actions; rotation frame 'tool'\)",
        ),
        (
            "def make(env, **_): return SimplePolicy('x', env)",
            "first plan of policy 'x'.*got NotImplementedError",
        ),
        (
            "class P(SimplePolicy):\n    def plan(self, o, rng): return o.state[:5]\n"
            "def make(env, **_): return P('x', env)",
            r"first plan of policy 'x'.*expected an action chunk of \(horizon, 6\), "
            r"got ValueError: .*\(1, 5\)",
        ),
    ],
)
def test_a_factory_that_makes_no_policy_is_refused_in_one_sentence(
    outside, tmp_path, eval_here, text, said
):
    own = write(outside, "own", text)
    refused = eval_here("--policy", own, "--env", "so101/pick_place", "--run-dir", tmp_path)
    assert refused.returncode == 2
    assert re.search(said, refused.stderr)


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("name", ["toy_policy:", "toy_polic:make", "toy_policy:mak"])
def test_an_import_string_that_cannot_be_imported_is_refused_before_anything_is(name, eval_here):
    refused = eval_here("--policy", name)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"eval: --policy {name}: expected")


@pytest.mark.usefixtures("outside")
def test_features_of_a_policy_whose_embedding_nobody_knows_are_refused(eval_here):
    flags = "--policy toy_policy:make --env so101/pick_place --collect-features"
    refused = eval_here(*flags.split())
    assert refused.returncode == 2
    assert "a policy whose embedding is known: act, diffusion" in refused.stderr


def set_up_own(policy, **flags):
    """Return the setup, whose environment is closed already, and its flags."""
    config = make_config(EvalConfig, policy=policy, env="so101/pick_place", **flags)
    setup = set_up(with_absolute_paths(config))
    setup.env.close()
    return setup, config


@pytest.mark.usefixtures("outside")
def test_adapters_stand_between_it_and_the_environment():
    config = make_config(
        SubjectConfig,
        policy="toy_policy:make",
        env="so101/pick_place",
        gripper_offset=5.0,
    )
    setup = set_up(config)
    assert isinstance(setup.policy, AdaptedPolicy)
    with closing(setup.env) as env:
        env.reset(0)
        memory = make_memory(env.observe())
    adapted = setup.policy.predict([memory], [episode_rng("x", 0)])[0]
    plain = setup.policy.inner.predict([memory], [episode_rng("x", 0)])[0]
    assert_allclose(adapted - plain, [[0, 0, 0, 0, 0, 5]] * 8, atol=1e-5)


def test_its_checkpoint_is_its_own_matter(outside):
    text = (
        "def make(env, checkpoint, device):\n"
        "    return SimplePolicy('x', env, checkpoint=f'{checkpoint} on {device}')"
    )
    own = write(outside, "own", text)
    (outside / "weights").mkdir()
    setup, config = set_up_own(own, checkpoint="weights", device="cpu")
    assert setup.policy.spec.checkpoint == f"{outside / 'weights'} on cpu"
    assert setup.checkpoint is None
    on_the_hub = replace_flags(config, checkpoint="owner/name")
    assert with_absolute_paths(on_the_hub).policy.checkpoint == "owner/name"


@pytest.mark.parametrize("follows", [False, True])
def test_one_that_follows_its_environment_is_made_anew_for_the_next_task(outside, follows):
    text = (
        "def make(env, checkpoint, device):\n"
        f"    return SimplePolicy(env.name, env, follows_env={follows})"
    )
    setup, config = set_up_own(write(outside, "own", text))
    with closing(make_env("so101/pick_place_brick", {})) as brick:
        followed = follow_task(config, setup, brick)
    assert (followed is setup.policy) == (not follows)
    assert followed.spec.type == ("so101/pick_place_brick" if follows else "so101/pick_place")


def test_every_kind_is_loaded_by_the_same_function(blind_env, small_act):
    assert load_policy("zero", blind_env).spec.is_baseline
    scripted = load_policy("scripted", blind_env).spec
    assert scripted.is_baseline
    assert scripted.follows_env
    assert not scripted.has_network
    act = load_policy("act", checkpoint=str(small_act), device="cpu").spec
    assert act.has_network
    assert act.seedable
    assert not act.is_baseline
    assert not act.follows_env
    said = "policy 'zero': expected an environment that it is made for, got none"
    with pytest.raises(WhiskerError, match=said):
        load_policy("zero")
    with pytest.raises(UnknownNameError):
        load_policy("akt")


def test_a_simple_policy_plans_each_row_from_its_own_observation_and_generator(blind_env):
    class Noisy(SimplePolicy):
        def plan(self, observation, rng):
            return observation.state + rng.normal(size=6)

    policy = Noisy("noisy", blind_env.spec, stochastic=True)

    def rngs(*indices):
        return [episode_rng("x", index) for index in indices]

    memories = []
    for index in (0, 1):
        blind_env.reset(index)
        memories.append(make_memory(blind_env.observe()))
    together = policy.predict(memories, rngs(0, 1)).actions
    assert together.shape == (2, 1, 6)
    assert together.dtype == np.float32
    for k, memory in enumerate(memories):
        assert_array_equal(together[k], policy.predict([memory], rngs(k))[0])
    three = policy.sample(memories[0], rngs(0, 1, 2)).actions
    assert_array_equal(three[0], together[0])
    assert len({row.tobytes() for row in three}) == 3
    with pytest.raises(WhiskerError, match="a policy that draws"):
        Noisy("still", blind_env.spec).sample(memories[0], rngs(0))
