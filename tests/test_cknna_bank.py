"""Tests that banks on disk return every row, hold whole rows after a crash and report damage."""

import io
import json
import shutil
from contextlib import closing, suppress
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch

from cknna.bank import open_bank
from cknna.bank_description import (
    EMBEDDING,
    AuditRow,
    BankDescription,
    load_bank_description,
    save_description,
)
from cknna.episode_features import EpisodeFeatures, episode_features_path, save_episode_features
from cknna.row_files import RowFiles, open_rows
from cknna.tensor_files import load_tensor_pair
from sim.errors import WhiskerError
from sim.goals.pick_and_place import PICK_AND_PLACE

DIM = 5
LAYER = "model.encoder.layers.0"
LENGTHS = {
    ("pick", 2): 3,
    ("pick", 10): 1,
    ("place", 0): 4,
}


def hook_row(name, dim):
    path = ("model.backbone",)
    return AuditRow(
        name,
        path,
        "ResNet",
        (1, dim),
        1,
        1,
        dim,
        "none",
        "",
        "",
        "",
    )


DESCRIPTION = BankDescription(
    "rollout",
    "act",
    "here",
    {"model.safetensors": "ab"},
    False,
    (hook_row(EMBEDDING, DIM), hook_row(LAYER, 2)),
    "so101",
    state_names=("x", "y"),
)


def episode(task, index):
    n = LENGTHS[task, index]
    rng = np.random.default_rng([index, n])
    return EpisodeFeatures(
        features={
            EMBEDDING: rng.normal(size=(n, DIM)).astype(np.float32),
            LAYER: np.full((n, 2), index, np.float32),
        },
        state=rng.normal(size=(n, 2)).astype(np.float32),
        step=np.arange(n, dtype=np.int64) * 8,
        progress=rng.random((n, 6)) > 0.5,
        stages=tuple(PICK_AND_PLACE.stages),
        n_steps=30 + index,
        outcome="success" if index else "missed_goal",
        success=bool(index),
    )


@pytest.fixture
def run(tmp_path):
    save_description(tmp_path / "features.json", DESCRIPTION)
    for key in LENGTHS:
        save_episode_features(
            tmp_path / episode_features_path(*key),
            episode(*key),
        )
    return tmp_path


@pytest.mark.parametrize(
    "kept_bytes",
    [1 << 30, 0],
    ids=["in memory", "on disk"],
)
def test_the_rows_of_a_run_are_those_of_its_episodes_in_their_order(run, monkeypatch, kept_bytes):
    monkeypatch.setattr("cknna.bank.KEPT_BYTES", kept_bytes)
    bank = open_bank(run)
    episodes = [episode(*key) for key in LENGTHS]
    rows = bank.features()
    assert isinstance(rows, np.memmap) == (kept_bytes == 0) and rows.dtype == np.float32
    for name in (EMBEDDING, LAYER):
        recorded = np.concatenate([each.features[name] for each in episodes])
        np.testing.assert_array_equal(bank.features(name), recorded)
    np.testing.assert_array_equal(rows, bank.features(EMBEDDING))
    np.testing.assert_array_equal(
        bank.state,
        np.concatenate([each.state for each in episodes]),
    )
    assert bank.tasks == ("pick", "place")
    assert bank.n_rows == 8
    assert bank.hook_points == (EMBEDDING, LAYER)
    assert bank.episode.tolist() == [0, 0, 0, 1, 2, 2, 2, 2]
    assert bank.task_index.tolist() == [0] * 4 + [1] * 4
    assert bank.episode_index.tolist() == [2, 2, 2, 10, 0, 0, 0, 0]
    assert bank.step.tolist()[:4] == [0, 8, 16, 0]
    assert bank.rollout.outcome[3:5].tolist() == ["success", "missed_goal"]
    assert bank.rollout.n_steps[3] == 40
    held = episodes[1].progress[:, episodes[1].stages.index("grasped")]
    np.testing.assert_array_equal(bank.rollout.held[3:4], held)
    assert bank.checksum is None


def test_a_description_comes_back_as_it_was(run):
    assert load_bank_description(run / "features.json") == DESCRIPTION
    assert open_bank(run).description == DESCRIPTION


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.update(version=9), "version 1, got 9. Update"),
        (lambda content: content.pop("kind"), "a whole description"),
        (lambda content: content["hooks"][0].pop("dim"), "a whole description"),
        (lambda content: content["hooks"][0].update(dim=7), r"2\.npz.*expected 7 numbers"),
    ],
)
def test_another_description_is_one_clear_error(run, change, said):
    content = json.loads((run / "features.json").read_text())
    change(content)
    (run / "features.json").write_text(json.dumps(content))
    with pytest.raises(WhiskerError, match=said):
        open_bank(run).features()


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("features.json", "{", "a description of features"),
        ("features/pick/2.npz", "PK", r"pick/2\.npz.*an episode's features"),
        ("features/pick/2.npz", "", r"pick/2\.npz"),
    ],
)
def test_a_damaged_file_is_one_clear_error(run, file, content, said):
    (run / file).write_text(content)
    with pytest.raises(WhiskerError, match=said):
        open_bank(run).features()


def test_a_run_without_features_is_one_clear_error(run):
    shutil.rmtree(run / "features")
    with pytest.raises(WhiskerError, match="at least one episode with features"):
        open_bank(run)
    (run / "features.json").unlink()
    with pytest.raises(WhiskerError, match="Run eval with --collect-features"):
        open_bank(run)


def test_an_unknown_hook_point_and_an_empty_bank(run):
    said = f"'embeding'.*Did you mean '{EMBEDDING}'"
    with pytest.raises(WhiskerError, match=said):
        open_bank(run).features("embeding")
    none = replace(
        episode("pick", 10),
        features={},
        state=np.zeros((0, 2), np.float32),
        step=np.zeros(0, np.int64),
        progress=np.zeros((0, 6), bool),
    )
    for key in LENGTHS:
        save_episode_features(
            run / episode_features_path(*key),
            none,
        )
    with pytest.raises(WhiskerError, match="an empty bank"):
        open_bank(run)


COLUMNS = {
    "a": (np.dtype(np.float32), 3),
    "b": (np.dtype(np.int64), 2),
}


def block(start, n):
    numbers = np.arange(start, start + n)[:, None]
    return {
        "a": np.repeat(numbers, 3, axis=1).astype(np.float32),
        "b": np.repeat(numbers, 2, axis=1),
    }


def append(folder, n):
    """Append the next n rows, and return how many there were before."""
    with closing(RowFiles(folder, COLUMNS)) as files:
        n_before = files.n_rows
        files.append(block(n_before, n))
    return n_before


def assert_holds_first(folder, n):
    for name, rows in block(0, n).items():
        np.testing.assert_array_equal(
            np.load(folder / f"{name}.npy"),
            rows,
        )


def test_rows_are_appended_and_any_program_reads_them(tmp_path):
    assert [append(tmp_path, n) for n in (4, 1, 1000)] == [0, 4, 5]
    assert_holds_first(tmp_path, 1005)
    assert isinstance(open_rows(tmp_path / "a.npy"), np.memmap)


@pytest.mark.parametrize(
    "at_write",
    range(5),
)
def test_a_crash_at_any_write_leaves_whole_rows(tmp_path, monkeypatch, at_write):
    """A crash at any write leaves whole rows.

    All columns are written before the headers. Half of one write reaches the disk.
    """
    append(tmp_path, 4)
    files = RowFiles(tmp_path, COLUMNS)
    writes = count()

    class Torn(io.FileIO):
        def write(self, content):
            if next(writes) < at_write:
                return super().write(content)
            super().write(content[: len(content) // 2])
            raise KeyboardInterrupt

    for name, file in files._files.items():
        file.close()
        files._files[name] = Torn(tmp_path / f"{name}.npy", "r+")
    with suppress(KeyboardInterrupt):
        files.append(block(4, 3))
    files.close()
    # The last write is the header of b, and its first half already holds the number of rows.
    n_kept = 7 if at_write >= 3 else 4
    assert append(tmp_path, 2) == n_kept
    assert_holds_first(tmp_path, n_kept + 2)


def test_other_columns_and_a_truncated_file_are_refused(tmp_path):
    append(tmp_path, 100)
    said = r"a\.npy'.*expected rows of 4 float32, got 3 float32.*choose a new folder"
    with pytest.raises(WhiskerError, match=said):
        RowFiles(
            tmp_path,
            COLUMNS | {"a": (np.dtype(np.float32), 4)},
        )
    file = tmp_path / "a.npy"
    file.write_bytes(file.read_bytes()[:400])
    with pytest.raises(WhiskerError, match=r"a\.npy.*an array of rows, whole"):
        open_rows(file)


@pytest.fixture
def tensors(tmp_path):
    def save(name, tensor):
        torch.save(tensor, tmp_path / name)
        return tmp_path / name

    return save


def test_old_pairs_are_read(tensors):
    rows = np.random.default_rng(0).normal(size=(7, 4))
    a0 = tensors(
        "a0.pt",
        torch.tensor(rows[:3], dtype=torch.bfloat16),
    )
    a1 = tensors(
        "a1.pt",
        torch.tensor(rows[3:], requires_grad=True),
    )
    a, b = load_tensor_pair(
        [a0, a1],
        tensors("b.pt", torch.tensor(rows[:, :2])),
    )
    assert a.dtype == b.dtype == np.float32
    np.testing.assert_array_equal(a[3:], rows[3:].astype(np.float32))
    np.testing.assert_allclose(a[:3], rows[:3], rtol=1e-2)
    np.testing.assert_array_equal(b, rows[:, :2].astype(np.float32))


class Evil:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (torch.zeros(5, 3), "expected rows of 4, as before, got 3"),
        (torch.zeros(5, 4), "expected 9 rows, as in features_a, got 4"),
        (torch.zeros(0, 4), "an empty tensor"),
        (torch.zeros(5), r"floating-point numbers \(n, dim\), got torch.float32 \(5,\)"),
        (torch.zeros(5, 4, dtype=torch.int64), "torch.int64"),
        ([torch.zeros(5, 4)], "got a list"),
        (Evil(), "a tensor and nothing else, got other objects"),
    ],
)
def test_what_is_no_old_pair_is_one_clear_error(tensors, capsys, content, said):
    four = tensors("four.pt", torch.zeros(4, 4))
    with pytest.raises(WhiskerError, match=said):
        load_tensor_pair(
            [four, tensors("a.pt", content)],
            four,
        )
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "n_bytes",
    [0, 10, 300],
)
def test_a_truncated_old_file(tensors, n_bytes):
    path = tensors("a.pt", torch.zeros(500, 4))
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(WhiskerError, match=r"a\.pt'.*expected a"):
        load_tensor_pair([path], path)
    with pytest.raises(WhiskerError, match="No such file"):
        load_tensor_pair([path.with_name("none.pt")], path)
