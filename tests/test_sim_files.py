import errno
import os
from pathlib import Path

import pytest

from sim.files import UNFINISHED_PREFIX, atomic_write, is_write_error


def test_the_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with atomic_write(
        path,
        sync=True,
    ) as unfinished:
        unfinished.write_text("new")
        assert not path.exists() and unfinished.name.startswith(UNFINISHED_PREFIX)
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_one_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def write_error(path):
    with pytest.raises(OSError) as raised, atomic_write(path) as unfinished:
        unfinished.write_text("new")
    return raised.value


def test_errors_of_writing_are_told_from_errors_of_reading(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "full").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "folder")
    for name in ("file/x", "file/deep/x", "folder"):
        for path in (tmp_path / name, Path("..") / name):
            assert is_write_error(write_error(path), path)
    full = OSError(
        errno.ENOSPC,
        os.strerror(errno.ENOSPC),
    )
    assert is_write_error(full, tmp_path / "x")
    for path in (tmp_path / "gone", tmp_path / "x.css", Path("../gone"), tmp_path / "elsewhere/x"):
        with pytest.raises(FileNotFoundError) as raised:
            path.read_text()
        assert not is_write_error(
            raised.value,
            tmp_path / "x",
        )
