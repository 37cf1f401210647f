"""The memory for environments is measured, and too little of it is an error."""

import pytest

from sim import memory
from sim.errors import WhiskerError
from sim.memory import check_memory, compute_available_gb

MEMINFO = "MemTotal:  24000000 kB\nMemFree:  1 kB\nMemAvailable: 8000000 kB\n"


def write_container(folder, limit, current, inactive_file):
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive_file}\n")


def test_a_container_that_allows_less_counts(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(MEMINFO)
    assert compute_available_gb(meminfo, tmp_path) == pytest.approx(8.192)
    write_container(tmp_path, 4_000_000_000, 3_500_000_000, 500_000_000)
    assert compute_available_gb(meminfo, tmp_path) == pytest.approx(1.0)
    write_container(tmp_path, "max", 3_500_000_000, 0)
    assert compute_available_gb(meminfo, tmp_path) == pytest.approx(8.192)


def test_what_cannot_be_told_passes(tmp_path, monkeypatch):
    assert compute_available_gb(tmp_path / "none", tmp_path) is None
    monkeypatch.setattr(
        memory,
        "compute_available_gb",
        lambda: None,
    )
    check_memory("an environment", 1e6)


def test_too_little_is_one_clear_error():
    check_memory("an environment", 0.0)
    with pytest.raises(
        WhiskerError, match=r"memory for 'libero_10/0': expected 1000000.0 GB free, got"
    ):
        check_memory("'libero_10/0'", 1e6)
