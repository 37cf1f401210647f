"""Commands whose work is done by several processes leave none of them running."""

import signal

import pytest

from tests.processes import assert_all_end, children_of, start_python

SIGNALS = [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)]


def has_files(folder, pattern):
    return lambda: any(folder.rglob(pattern))


@pytest.mark.slow
@pytest.mark.parametrize(("signal_number", "code"), SIGNALS)
def test_no_simulation_of_a_demonstration_is_left_running(tmp_path, signal_number, code):
    process = start_python(
        *("-c", "from eval.cli import main_demos; raise SystemExit(main_demos())"),
        *("--episodes", "500", "--workers", "2", "--output", tmp_path / "demos"),
        has_begun=has_files(tmp_path, "*.png"),
    )
    # Two workers, and the process that they are forked from.
    assert len(children_of(process.pid)) >= 3
    assert_all_end(process, signal_number, code)
