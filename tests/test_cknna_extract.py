"""Tests that features of recorded observations equal those collected during the rollout."""

import json
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, replace
from functools import cache
from itertools import islice

import numpy as np
import pytest

from cknna.bank import open_bank
from cknna.bank_description import EMBEDDING
from cknna.extract import ExtractOptions, extract
from cknna.feature_work import compute_features
from cknna.hooks import FeatureHook
from cknna.observation_windows import cut_batches, read_windows
from cknna.recordings import open_recording
from cknna.report import check_comparable
from eval.config import EvalConfig
from eval.episode_loop import evaluate
from eval.evaluation import set_up
from eval.provenance import describe
from eval.run_folder import RunFolder
from eval.subject import name_policy
from policies.lerobot_dataset import DemonstrationWriter
from policies.policy import make_memory
from sim.errors import WhiskerError
from sim.flags import make_config
from sim.observation import Observation
from sim.recorded_observations import RecordedObservation
from sim.registry import make_env
from tests.small_checkpoints import CAMERAS, save_small_checkpoint, shrunken_paligemma
from tests.test_sim_libero_demonstrations import recording as demonstrated
from tests.test_sim_libero_demonstrations import write_plainly

ATOL = 1e-5
TYPES = ("act", "diffusion", "pi0_fast", "smolvla", "tdmpc")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a function from a type to its policy and its run folder.

    The run holds features and observations of two short episodes.
    """
    folder = tmp_path_factory.mktemp("extract")

    @cache
    def make(policy_type):
        with shrunken_paligemma():
            config = make_config(
                EvalConfig,
                checkpoint=str(save_small_checkpoint(policy_type, folder / policy_type)),
                camera_map="overhead_cam=image" if policy_type == "tdmpc" else None,
                episodes=2,
                max_steps=10,
                collect_features=True,
                record_observations=True,
                trust_remote_code=True,
            )
            setup = set_up(name_policy(config))
        run = RunFolder.create(folder / "runs", describe(config, setup))
        with closing(setup.env), closing(run):
            assert not any(row.error for row in evaluate(config, setup, run))
        return setup.policy, run.path

    return make


def extract_from(seen, policy, bank, **options):
    """Extract features from a run, or from given observations."""
    recording = seen if isinstance(seen, Iterable) else open_recording(seen).observations
    hook = FeatureHook(policy)
    return extract(
        policy,
        hook,
        recording,
        str(seen),
        bank,
        ExtractOptions(**options),
    )


@pytest.fixture(scope="module")
def act_bank(runs, tmp_path_factory):
    """Return the features of the small ACT on the observations of its own run."""
    policy, run = runs("act")
    return extract_from(
        run,
        policy,
        tmp_path_factory.mktemp("banks") / "act",
    )


@pytest.mark.parametrize("policy_type", TYPES)
def test_extracted_and_collected_features_agree(policy_type, runs, tmp_path):
    policy, run = runs(policy_type)
    online = open_bank(run)
    extracted = extract_from(
        run,
        policy,
        tmp_path / "bank",
        batch_size=3,
    )
    np.testing.assert_allclose(extracted.features(), online.features(), atol=ATOL)
    for column in ("state", "task_index", "episode_index", "step", "episode"):
        np.testing.assert_array_equal(getattr(extracted, column), getattr(online, column))
    assert extracted.tasks == online.tasks == ("pick_place",)
    assert isinstance(extracted.features(), np.memmap)
    assert extracted.rollout is None
    assert len(np.unique(extracted.checksum)) == extracted.n_rows > 2
    ours = extracted.description
    theirs = online.description
    assert (ours.kind, theirs.kind) == ("extracted", "rollout") and ours.hooks == theirs.hooks
    assert ours.files_sha256 == theirs.files_sha256 and ours.files_sha256["model.safetensors"]


@pytest.mark.parametrize(
    "n_before",
    [1, 3, 4],
)
def test_an_interrupted_bank_is_finished(n_before, runs, act_bank, tmp_path):
    policy, run = runs("act")

    def stop(n_rows):
        if n_rows >= n_before:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_from(
            run,
            policy,
            tmp_path,
            batch_size=2,
            on_rows=stop,
        )
    n_kept = open_bank(tmp_path).n_rows
    assert n_before <= n_kept < act_bank.n_rows
    n_computed = []
    finished = extract_from(
        run,
        policy,
        tmp_path,
        batch_size=2,
        on_rows=n_computed.append,
    )
    assert n_computed[0] > n_kept
    np.testing.assert_allclose(finished.features(), act_bank.features(), atol=ATOL)
    np.testing.assert_array_equal(finished.checksum, act_bank.checksum)


def change_observations(run, change):
    """Return the observations of a run, each of them changed."""
    return [
        replace(seen, observation=change(seen.observation))
        for seen in open_recording(run).observations
    ]


def darken(observation):
    images = {camera: image // 2 for camera, image in observation.images.items()}
    return replace(observation, images=images)


def test_a_bank_of_something_else_is_not_continued(runs, act_bank):
    policy, run = runs("act")
    bank = act_bank.path
    with pytest.raises(WhiskerError, match=r"bank\.json', every: expected 1, got 2"):
        extract_from(
            run,
            policy,
            bank,
            every=2,
        )
    with pytest.raises(WhiskerError, match="policy_type: expected act, got smolvla"):
        extract_from(run, runs("smolvla")[0], bank)
    said = "row 0: expected the observation that it was made of, got another one"
    with pytest.raises(WhiskerError, match=said):
        extract_from(
            change_observations(run, darken),
            policy,
            bank,
        )
    with pytest.raises(WhiskerError, match="got the end of the recording"):
        extract_from(islice(open_recording(run).observations, 2), policy, bank)


def enlarge_state(observation):
    return replace(observation, state=57 * observation.state)


def test_weights_that_were_trained_on_something_else_are_told(runs, act_bank, tmp_path):
    policy, run = runs("act")
    assert act_bank.description.out_of_range_inputs == {}
    assert check_comparable([act_bank], insists=False) == []
    # Radians shown to a policy that was trained on degrees are merely small. Degrees shown to a
    # policy that was trained on radians are out of range.
    enlarged = change_observations(run, enlarge_state)
    other = extract_from(enlarged, policy, tmp_path / "other")
    (how_far,) = other.description.out_of_range_inputs.values()
    (normalised,) = policy.network_inputs(enlarged[0].observation)["observation.state"]
    assert how_far == f"normalised {normalised.min():.0f} to {normalised.max():.0f}"
    said = f"other: the weights were trained on something else: observation.state is {how_far}"
    assert check_comparable([other], insists=False) == [said]


def test_every_second_decision(runs, act_bank, tmp_path):
    policy, run = runs("act")
    half = extract_from(
        run,
        policy,
        tmp_path,
        every=2,
    )
    np.testing.assert_allclose(half.features(), act_bank.features()[::2], atol=ATOL)


def test_another_policy_is_shown_the_same(runs, tmp_path):
    """Both policies are shown the same observations, row by row, as a paired test requires."""
    diffusion, run = runs("diffusion")
    bank = extract_from(run, diffusion, tmp_path / "diffusion")
    other = extract_from(run, runs("smolvla")[0], tmp_path / "smolvla")
    np.testing.assert_array_equal(bank.checksum, other.checksum)
    # Diffusion takes images of 64 px, and SmolVLA takes images of 32 px.
    assert other.description.resized == dict.fromkeys(CAMERAS, "64 x 64 shown as 32 x 32")


def look(step, episode_index=0, cameras=CAMERAS, state_dim=6, **parts):
    images = {camera: np.full((32, 32, 3), step, np.uint8) for camera in cameras}
    observation = Observation(
        images,
        np.zeros(state_dim, np.float32),
        "go",
    )
    return replace(
        RecordedObservation(
            observation,
            "t",
            episode_index,
            step,
            True,
        ),
        **parts,
    )


def test_the_past_of_a_decision_is_what_was_seen_just_before_it():
    looks = [
        look(0),
        look(3, decided=False),
        look(4),
        look(5),
        look(6, 1),
        look(9, 1),
    ]
    windows = [
        [observation.step for observation in window.observations]
        for window in read_windows(looks, 2)
    ]
    assert windows == [[0], [3, 4], [4, 5], [6], [9]]
    assert [len(window.observations) for window in read_windows(looks, 1)] == [1] * 5


def test_a_batch_has_one_instruction():
    looks = [look(step) for step in range(5)]
    looks[3] = replace(
        looks[3],
        observation=replace(looks[3].observation, instruction="stop"),
    )
    batches = cut_batches(read_windows(looks, 1), 2)
    steps = [[window.present.step for window in batch] for batch in batches]
    assert steps == [[0, 1], [2], [3], [4]]


OTHER_CAMERA = [look(0, cameras=("top", "wrist_cam"))]


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        ([], "expected at least one observation, got none"),
        (OTHER_CAMERA, "expected overhead_cam, wrist_cam, got top, wrist_cam in the"),
        ([look(0, state_dim=8)], "expected 6 numbers, got 8 in the recording"),
    ],
)
def test_a_recording_that_does_not_fit_is_one_clear_error(looks, said, runs, tmp_path):
    with pytest.raises(WhiskerError, match=said):
        extract_from(looks, runs("act")[0], tmp_path / "bank")
    assert not (tmp_path / "bank").exists()


def test_a_camera_of_another_name_is_mapped(runs, tmp_path):
    camera_map = {"top": "overhead_cam"}
    bank = extract_from(
        OTHER_CAMERA,
        runs("act")[0],
        tmp_path,
        camera_map=camera_map,
    )
    assert bank.n_rows == 1


def test_what_is_no_recording(runs, tmp_path):
    with pytest.raises(WhiskerError, match="nothing there"):
        open_recording(tmp_path / "none")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(WhiskerError, match="Run it with eval --record-observations"):
        next(open_recording(tmp_path).observations)
    _, run = runs("act")
    episode = "observations/pick_place/0.npz"
    (tmp_path / episode).parent.mkdir(parents=True)
    whole = (run / episode).read_bytes()
    (tmp_path / episode).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WhiskerError, match=r"0\.npz': expected a whole recording"):
        next(open_recording(tmp_path).observations)


def test_libero_demonstrations_are_seen_as_in_the_environment(tmp_path):
    path = write_plainly(tmp_path / "x_demo.hdf5", numbers=(0, 1))
    looks = list(open_recording(path).observations)
    assert [(seen.episode_index, seen.step) for seen in looks] == [
        (k, t) for k in (0, 1) for t in range(1, 7)
    ]
    obs = demonstrated(1)["obs"]
    seen = looks[8].observation
    for camera, recorded in (("image", "agentview_rgb"), ("image2", "eye_in_hand_rgb")):
        np.testing.assert_array_equal(seen.images[camera], obs[recorded][2, ::-1, ::-1])
    state = np.concatenate([obs["ee_states"][2], obs["gripper_states"][2]])
    np.testing.assert_array_equal(seen.state, state.astype(np.float32))
    assert seen.instruction == "open the drawer" and looks[8].task == "open_the_drawer"


def test_a_dataset_is_seen_as_it_was_recorded(runs, tmp_path):
    policy, _ = runs("act")
    dataset = tmp_path / "set"
    env = make_env("so101/pick_place", image_sizes=policy.spec.image_sizes)
    writer = DemonstrationWriter(dataset, env.spec, use_videos=False)
    seen = []
    for index in range(2):
        env.reset(index)
        for _ in range(2):
            seen.append(env.observe())
            writer.add_frame(
                seen[-1],
                env.state(),
                np.zeros(3),
                np.zeros(3),
            )
            env.step(env.state() + 3)
        writer.keep_episode()
    writer.finalize()
    env.close()
    looks = list(open_recording(dataset).observations)
    places = [(look.episode_index, look.step) for look in looks]
    assert places == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]
    for recorded, original in zip(looks, seen, strict=True):
        np.testing.assert_equal(asdict(recorded.observation), asdict(original))
    bank = extract_from(dataset, policy, tmp_path / "bank")
    memories = [make_memory(observation) for observation in seen]
    direct = compute_features(policy, FeatureHook(policy), memories)[EMBEDDING]
    np.testing.assert_allclose(bank.features(), direct, atol=ATOL)
    assert json.loads((tmp_path / "bank/tasks.json").read_text()) == [env.spec.instruction]
