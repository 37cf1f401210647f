"""Tests that features of recorded observations equal those collected during the rollout."""

import json
from contextlib import closing
from dataclasses import replace
from functools import cache
from itertools import islice

import numpy as np
import pytest

from cknna.bank import open_bank
from cknna.bank_description import EMBEDDING
from cknna.extract import ExtractOptions, compute_features, extract
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
from tests.small_checkpoints import save_small_checkpoint, shrunken_paligemma
from tests.test_sim_libero_demonstrations import recording as demonstrated
from tests.test_sim_libero_demonstrations import write_plainly

ATOL = 1e-5
TYPES = ("act", "diffusion", "pi0_fast", "smolvla", "tdmpc")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a function from a type to its setup and its run folder.

    The run holds features and observations of two short episodes.
    """
    folder = tmp_path_factory.mktemp("extract")
    made = []

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
        made.append(setup)
        run = RunFolder.create(folder / "runs", describe(config, setup))
        with closing(run):
            assert not any(row.error for row in evaluate(config, setup, run))
        return setup, run.path

    yield make
    for setup in made:
        setup.env.close()


def extract_run(setup, run, bank, **options):
    return extract(
        setup.policy,
        FeatureHook(setup.policy),
        open_recording(run),
        str(run),
        bank,
        ExtractOptions(**options),
    )


@pytest.mark.parametrize("policy_type", TYPES)
def test_extracted_and_collected_features_agree(policy_type, runs, tmp_path):
    setup, run = runs(policy_type)
    online = open_bank(run)
    extracted = extract_run(setup, run, tmp_path / "bank", batch_size=3)
    np.testing.assert_allclose(extracted.features(), online.features(), atol=ATOL)
    np.testing.assert_array_equal(extracted.state, online.state)
    for column in ("task_index", "episode_index", "step", "episode"):
        np.testing.assert_array_equal(getattr(extracted, column), getattr(online, column))
    assert extracted.tasks == online.tasks == ("pick_place",) and isinstance(
        extracted.features(), np.memmap
    )
    assert (
        extracted.rollout is None and len(set(extracted.checksum.tolist())) == extracted.n_rows > 2
    )
    ours = extracted.description
    theirs = online.description
    assert (ours.kind, theirs.kind) == ("extracted", "rollout") and ours.hooks == theirs.hooks
    assert ours.files_sha256 == theirs.files_sha256 and ours.files_sha256["model.safetensors"]


@pytest.mark.parametrize(
    "n_before",
    [1, 3, 4],
)
def test_an_interrupted_bank_is_finished(n_before, runs, tmp_path):
    setup, run = runs("act")
    whole = extract_run(setup, run, tmp_path / "whole", batch_size=2)

    class StopError(Exception):
        pass

    def stop(n_rows):
        if n_rows >= n_before:
            raise StopError

    with pytest.raises(StopError):
        extract_run(
            setup,
            run,
            tmp_path / "cut",
            batch_size=2,
            on_rows=stop,
        )
    n_kept = open_bank(tmp_path / "cut").n_rows
    assert n_before <= n_kept < whole.n_rows
    n_computed = []
    finished = extract_run(
        setup,
        run,
        tmp_path / "cut",
        batch_size=2,
        on_rows=n_computed.append,
    )
    assert n_computed[0] > n_kept and finished.n_rows == whole.n_rows
    np.testing.assert_allclose(finished.features(), whole.features(), atol=ATOL)
    np.testing.assert_array_equal(finished.checksum, whole.checksum)


def test_a_bank_of_something_else_is_not_continued(runs, tmp_path):
    setup, run = runs("act")
    bank = extract_run(setup, run, tmp_path / "bank").path
    with pytest.raises(WhiskerError, match=r"bank\.json', every: expected 1, got 2"):
        extract_run(setup, run, bank, every=2)
    with pytest.raises(WhiskerError, match="policy_type: expected act, got smolvla"):
        extract_run(runs("smolvla")[0], run, bank)
    others = (
        replace(
            look,
            step=look.step,
            observation=darker(look.observation),
        )
        for look in open_recording(run)
    )
    with pytest.raises(
        WhiskerError, match="row 0: expected the observation that it was made of, got another one"
    ):
        extract(
            setup.policy,
            FeatureHook(setup.policy),
            others,
            "others",
            bank,
        )
    with pytest.raises(WhiskerError, match="got the end of the recording"):
        extract(
            setup.policy, FeatureHook(setup.policy), islice(open_recording(run), 2), "short", bank
        )


def test_weights_that_were_trained_on_something_else_are_told(runs, tmp_path):
    setup, run = runs("act")
    own = extract_run(setup, run, tmp_path / "own")
    assert (
        own.description.out_of_range_inputs == {} and check_comparable([own], insists=False) == []
    )
    # Radians shown to a policy that was trained on degrees are merely small. Degrees shown to a
    # policy that was trained on radians are out of range.
    others = (
        replace(
            o,
            observation=replace(o.observation, state=57 * o.observation.state),
        )
        for o in open_recording(run)
    )
    other = extract(
        setup.policy,
        FeatureHook(setup.policy),
        others,
        "others",
        tmp_path / "other",
    )
    (how_far,) = other.description.out_of_range_inputs.values()
    (normalised,) = setup.policy.network_inputs(
        replace(
            next(open_recording(run)).observation,
            state=57 * own.state[0],
        )
    )["observation.state"]
    assert how_far == f"normalised {normalised.min():.0f} to {normalised.max():.0f}"
    (warning,) = check_comparable([other], insists=False)
    assert (
        warning
        == f"other: the weights were trained on something else: observation.state is {how_far}"
    )


def darker(observation):
    return replace(
        observation, images={camera: image // 2 for camera, image in observation.images.items()}
    )


def test_every_second_decision(runs, tmp_path):
    setup, run = runs("act")
    all_rows = extract_run(setup, run, tmp_path / "all")
    half = extract_run(setup, run, tmp_path / "half", every=2)
    np.testing.assert_allclose(half.features(), all_rows.features()[::2], atol=ATOL)


def test_another_policy_is_shown_the_same(runs, tmp_path):
    """Both policies are shown the same observations, row by row, as a paired test requires."""
    _, run = runs("diffusion")
    banks = [extract_run(runs(name)[0], run, tmp_path / name) for name in ("diffusion", "smolvla")]
    np.testing.assert_array_equal(banks[0].checksum, banks[1].checksum)
    # Diffusion takes images of 64 px, and SmolVLA takes images of 32 px.
    assert banks[1].description.resized == dict.fromkeys(
        ("overhead_cam", "wrist_cam"), "64 x 64 shown as 32 x 32"
    )


def look(
    step,
    episode_index=0,
    decided=True,
    instruction="go",
    cameras=("overhead_cam", "wrist_cam"),
    state_dim=6,
):
    images = {camera: np.full((32, 32, 3), step, np.uint8) for camera in cameras}
    observation = Observation(
        images,
        np.zeros(state_dim, np.float32),
        instruction,
    )
    return RecordedObservation(observation, "t", episode_index, step, decided)


def test_the_past_of_a_decision_is_what_was_seen_just_before_it():
    looks = [
        look(0),
        look(3, decided=False),
        look(4),
        look(5),
        look(6, episode_index=1),
        look(9, episode_index=1),
    ]
    windows = [
        [observation.step for observation in window.observations]
        for window in read_windows(looks, 2)
    ]
    assert windows == [[0], [3, 4], [4, 5], [6], [9]]
    assert [len(window.observations) for window in read_windows(looks, 1)] == [1] * 5


def test_a_batch_has_one_instruction():
    windows = read_windows(
        [
            look(0),
            look(1),
            look(2),
            look(3, instruction="stop"),
            look(4),
        ],
        1,
    )
    assert [[window.present.step for window in batch] for batch in cut_batches(windows, 2)] == [
        [0, 1],
        [2],
        [3],
        [4],
    ]


@pytest.mark.parametrize(
    ("looks", "camera_map", "said"),
    [
        ([], {}, "expected at least one observation, got none"),
        (
            [look(0, cameras=("top", "wrist_cam"))],
            {},
            "expected overhead_cam, wrist_cam, got top, wrist_cam in the",
        ),
        ([look(0, state_dim=8)], {}, "expected 6 numbers, got 8 in the recording"),
        ([look(0, cameras=("top", "wrist_cam"))], {"top": "overhead_cam"}, ""),
    ],
)
def test_a_recording_that_does_not_fit_is_one_clear_error(looks, camera_map, said, runs, tmp_path):
    policy = runs("act")[0].policy

    def run():
        options = ExtractOptions(camera_map=camera_map)
        return extract(
            policy,
            FeatureHook(policy),
            looks,
            "set",
            tmp_path / "bank",
            options,
        )

    if not said:
        assert run().n_rows == 1
        return
    with pytest.raises(WhiskerError, match=said):
        run()
    assert not (tmp_path / "bank").exists()


def test_what_is_no_recording(runs, tmp_path):
    with pytest.raises(WhiskerError, match="nothing there"):
        open_recording(tmp_path / "none")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(WhiskerError, match="Run it with eval --record-observations"):
        next(open_recording(tmp_path))
    _, run = runs("act")
    (tmp_path / "observations/pick_place").mkdir(parents=True)
    whole = (run / "observations/pick_place/0.npz").read_bytes()
    (tmp_path / "observations/pick_place/0.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WhiskerError, match=r"0\.npz': expected a whole recording"):
        next(open_recording(tmp_path))


def test_libero_demonstrations_are_seen_as_in_the_environment(tmp_path):
    path = write_plainly(tmp_path / "x_demo.hdf5", numbers=(0, 1))
    looks = list(open_recording(path))
    assert [(seen.episode_index, seen.step) for seen in looks] == [
        (k, t) for k in (0, 1) for t in range(1, 7)
    ]
    obs = demonstrated(1)["obs"]
    seen = looks[8].observation
    np.testing.assert_array_equal(
        seen.images["image"],
        obs["agentview_rgb"][2, ::-1, ::-1],
    )
    np.testing.assert_array_equal(
        seen.images["image2"],
        obs["eye_in_hand_rgb"][2, ::-1, ::-1],
    )
    state = np.concatenate([obs["ee_states"][2], obs["gripper_states"][2]])
    np.testing.assert_array_equal(seen.state, state.astype(np.float32))
    assert seen.instruction == "open the drawer" and looks[8].task == "open_the_drawer"


def test_a_dataset_is_seen_as_it_was_recorded(runs, tmp_path):
    setup, _ = runs("act")
    env = make_env("so101/pick_place", image_sizes=setup.policy.spec.image_sizes)
    writer = DemonstrationWriter(tmp_path / "set", env.spec, use_videos=False)
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
    looks = list(open_recording(tmp_path / "set"))
    assert [(look.episode_index, look.step) for look in looks] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]
    for recorded, original in zip(looks, seen, strict=True):
        np.testing.assert_array_equal(recorded.observation.state, original.state)
        for camera, image in original.images.items():
            np.testing.assert_array_equal(
                recorded.observation.images[camera],
                image,
            )
        assert recorded.observation.instruction == original.instruction
    bank = extract_run(setup, tmp_path / "set", tmp_path / "bank")
    direct = compute_features(
        setup.policy, FeatureHook(setup.policy), [make_memory(o) for o in seen]
    )[EMBEDDING]
    np.testing.assert_allclose(bank.features(), direct, atol=ATOL)
    assert json.loads((tmp_path / "bank/tasks.json").read_text()) == [env.spec.instruction]
