import json
import logging
import runpy
import shlex

import numpy as np
import pandas as pd
import pytest

from policies.lerobot_dataset import DemonstrationFrames, read_dataset
from sim.errors import WhiskerError
from tests.json_files import edited_json
from tests.small_checkpoints import ACTION_NAMES, HOME

N_STEPS = 4


@pytest.fixture
def dataset_v21(tmp_path):
    """Return a dataset of one episode in the layout of v2.1.

    This layout has one parquet file per episode, and JSON lines beside it.
    """
    root = tmp_path / "my demos"
    joints = {"dtype": "float32", "shape": [6], "names": ACTION_NAMES}
    one = {"shape": [1], "names": None}
    counters = ("frame_index", "episode_index", "index", "task_index")
    features = {
        "observation.state": joints,
        "action": joints,
        "timestamp": {"dtype": "float32"} | one,
    }
    info = {
        "codebase_version": "v2.1",
        "robot_type": "so101_follower",
        "total_episodes": 1,
        "total_frames": N_STEPS,
        "total_tasks": 1,
        "total_videos": 0,
        "total_chunks": 1,
        "chunks_size": 1000,
        "fps": 30,
        "splits": {"train": "0:1"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": None,
        "features": features | {name: {"dtype": "int64"} | one for name in counters},
    }
    meta = {
        "info.json": info,
        "tasks.jsonl": {"task_index": 0, "task": "Pick up the cube"},
        "episodes.jsonl": {"episode_index": 0, "tasks": ["Pick up the cube"], "length": N_STEPS},
        "episodes_stats.jsonl": {"episode_index": 0, "stats": {}},
    }
    (root / "meta").mkdir(parents=True)
    for name, content in meta.items():
        (root / "meta" / name).write_text(json.dumps(content) + "\n")
    steps = np.arange(N_STEPS)
    states = list(np.float32(HOME) + steps[:, None].astype(np.float32))
    rows = {
        "observation.state": states,
        "action": states,
        "timestamp": np.float32(steps / 30),
        "frame_index": steps,
        "index": steps,
        "episode_index": 0 * steps,
        "task_index": 0 * steps,
    }
    (root / "data" / "chunk-000").mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(root / "data" / "chunk-000" / "episode_000000.parquet")
    return root


def run_python(command, monkeypatch):
    """Run `python -m module arguments` in this process.

    The module sets up logging, which is undone afterwards.
    """
    program, flag, module, *arguments = shlex.split(command)
    assert (program, flag) == ("python", "-m")
    monkeypatch.setattr("sys.argv", [module, *arguments])
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    runpy.run_module(module, run_name="__main__")


def test_a_dataset_of_v21_is_refused_with_the_command_that_converts_it(dataset_v21, monkeypatch):
    for read in (read_dataset, DemonstrationFrames):
        said = r"expected a LeRobotDataset of v3\.0, got v2\.1"
        with pytest.raises(WhiskerError, match=said) as refusal:
            read(dataset_v21)
    run_python(refusal.value.hint.partition("_old): ")[2], monkeypatch)
    looks = list(read_dataset(dataset_v21))
    assert [look.step for look in looks] == list(range(N_STEPS))
    assert looks[0].task == "Pick up the cube"
    assert [look.observation.state[0] for look in looks] == list(range(N_STEPS))
    with pytest.raises(WhiskerError, match=r"object_pos_world in every frame, got none"):
        DemonstrationFrames(dataset_v21)


@pytest.mark.parametrize(
    ("version", "said"),
    [("v2.0", "with an older lerobot first"), ("latest", "such as 'v3.0'")],
)
def test_other_versions_are_refused_in_one_sentence(dataset_v21, version, said):
    with edited_json(dataset_v21 / "meta" / "info.json") as info:
        info["codebase_version"] = version
    with pytest.raises(WhiskerError, match=said):
        read_dataset(dataset_v21)
