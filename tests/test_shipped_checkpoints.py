"""The checkpoints in the repository do what the README says, measured with `eval` itself."""

import shutil
from contextlib import closing

import numpy as np
import pytest
import torch
import tyro
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from numpy.random import default_rng

from eval.config import EvalConfig
from eval.doctor.diagnosis import run_checks
from eval.episode_row import load_rows
from eval.evaluation import name_policy, set_up
from eval.outcome import Outcome
from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.registry import CHECKPOINT_FOLDER, default_checkpoint, shipped_checkpoints
from sim.command_line import EXIT_DONE
from sim.errors import WhiskerError
from sim.flags import make_config
from sim.observation import Observation
from tests.lerobot_batches import make_lerobot_batch


def test_all_are_there_and_small():
    assert shipped_checkpoints() == ["act", "act-early", "diffusion", "smolvla"]
    for name in shipped_checkpoints():
        files = (CHECKPOINT_FOLDER / name).rglob("*")
        assert sum(file.stat().st_size for file in files if file.is_file()) < 32e6


@pytest.mark.parametrize(
    ("flags", "env"),
    [
        ("--policy smolvla", "so101/pick_place_words"),
        ("--checkpoint smolvla", "so101/pick_place_words"),
        ("--policy act", "so101/pick_place"),
        ("--policy diffusion", "so101/pick_place"),
        ("--policy scripted", "so101/pick_place"),
        ("--policy smolvla --env so101/pick_place_either", "so101/pick_place_either"),
        ("--policy smolvla --env so101/pick_place", "so101/pick_place"),
    ],
)
def test_a_shipped_checkpoint_brings_the_environment_that_it_was_trained_in_unless_one_is_typed(
    flags, env
):
    config = tyro.cli(
        EvalConfig,
        args=flags.split(),
        config=(tyro.conf.OmitArgPrefixes,),
    )
    assert name_policy(config).env.name == env


def test_a_type_brings_its_checkpoint():
    shipped = open_checkpoint("smolvla", None, env="so101/pick_place_words")
    assert shipped.folder == CHECKPOINT_FOLDER / "smolvla"
    assert default_checkpoint("smolvla", "libero_spatial/0") == "HuggingFaceVLA/smolvla_libero"


OBSERVATION = Observation(
    {camera: np.full((64, 64, 3), 128, np.uint8) for camera in ("overhead_cam", "wrist_cam")},
    np.float32([0, -46, 26, 65, 0, 45]),
    "Pick up the red block and place it in the bowl.",
)


def plan(policy):
    memory = policy.reset()
    memory.observations.append(OBSERVATION)
    return policy.predict([memory], [default_rng(0)]).actions[0]


def test_a_moved_smolvla_plans_the_same(tmp_path, monkeypatch):
    shutil.copytree(CHECKPOINT_FOLDER / "smolvla", tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    moved = load_lerobot_policy(open_checkpoint(None, "moved"), "cpu")
    own = load_lerobot_policy(open_checkpoint("smolvla", None), "cpu")
    np.testing.assert_array_equal(plan(moved), plan(own))


@pytest.mark.parametrize(
    ("missing", "got"), [("", "no such folder"), ("/tokenizer.json", "no tokenizer.json")]
)
def test_a_smolvla_without_its_vlm_says_what_is_missing(missing, got, tmp_path):
    shutil.copytree(CHECKPOINT_FOLDER / "smolvla", tmp_path / "cut")
    path = tmp_path / f"cut/vlm{missing}"
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(WhiskerError, match=f"a folder 'vlm' inside.*with config.json.*{got}"):
        load_lerobot_policy(open_checkpoint(None, str(tmp_path / "cut")), "cpu")


@pytest.mark.parametrize("name", ["smolvla", "diffusion"])
def test_stock_lerobot_plans_the_same(name):
    """Our plans equal those of stock lerobot.

    SmolVLA is given the paths of its inner folders, because lerobot does not resolve them.
    """
    folder = CHECKPOINT_FOLDER / name
    ours = load_lerobot_policy(open_checkpoint(name, None), "cpu")
    config = PreTrainedConfig.from_pretrained(folder)
    overrides = {}
    if name == "smolvla":
        config.vlm_model_name = str(folder / "vlm")
        overrides["tokenizer_processor"] = {"tokenizer_name": config.vlm_model_name}
    policy = get_policy_class(name).from_pretrained(folder, config=config).eval()
    before, after = make_pre_post_processors(
        config, pretrained_path=str(folder), preprocessor_overrides=overrides
    )
    # The episode's generator seeds torch's own.
    torch.manual_seed(int(default_rng(0).integers(2**63)))
    for action in plan(ours)[:8]:
        batch = before(make_lerobot_batch(OBSERVATION))
        stock = after(policy.select_action(batch))
        np.testing.assert_allclose(action, stock[0], atol=1e-3)


EXHAUSTIVE = (pytest.mark.slow, pytest.mark.exhaustive)


@pytest.mark.parametrize(
    ("checkpoint", "n_episodes", "at_least", "at_most"),
    [
        ("act", 5, 4, 5),
        pytest.param("smolvla", 20, 16, 20, marks=pytest.mark.slow),
        pytest.param("diffusion", 20, 18, 20, marks=pytest.mark.slow),
        pytest.param("act", 100, 90, 100, marks=EXHAUSTIVE),
        pytest.param("act-early", 100, 30, 60, marks=EXHAUSTIVE),
    ],
)
def test_a_checkpoint_succeeds(checkpoint, n_episodes, at_least, at_most, eval_here, tmp_path):
    episodes = ("--episodes", n_episodes, "--run-dir", tmp_path)
    done = eval_here("--checkpoint", checkpoint, *episodes, "--quiet")
    assert done.returncode == EXIT_DONE, done.stderr
    (run,) = tmp_path.iterdir()
    outcomes = [row.outcome for row in load_rows(run)]
    assert len(outcomes) == n_episodes
    assert at_least <= outcomes.count(Outcome.SUCCESS) <= at_most


@pytest.mark.parametrize(
    "is_wrong",
    [False, pytest.param(True, marks=pytest.mark.slow)],
)
def test_the_doctor_finds_nothing_wrong_with_smolvla_whatever_it_is_told(is_wrong):
    """SmolVLA has no problem with either instruction.

    If it is given the wrong instruction, it does not do what the expert does. Neither cameras nor
    joints are to blame for that.
    """
    told = make_config(EvalConfig, policy="smolvla", episodes=1, wrong_instruction=is_wrong)
    config = name_policy(told)
    setup = set_up(config)
    with closing(setup.env):
        findings = run_checks(config, setup)
    assert not any(finding.is_problem for finding in findings)
    (agreement,) = (finding for finding in findings if finding.check == "agreement")
    assert ("told the wrong instruction" in agreement.finding) == is_wrong
