import pytest

from sim.files import UNFINISHED_PREFIX, written_whole


def test_the_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with written_whole(path, sync=True) as unfinished:
        unfinished.write_text("new")
        assert not path.exists() and unfinished.name.startswith(UNFINISHED_PREFIX)
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_one_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), written_whole(path) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
