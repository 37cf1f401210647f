"""Whether there is memory for one more environment: the system's answer to too many is to kill without a word."""

from pathlib import Path

from sim.errors import WhiskerError

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def check_memory(subject: str, needed_gb: float) -> None:
    """Raise `WhiskerError` if less than `needed_gb` (10⁹ bytes) is there for the taking.

    What cannot be told passes.
    """
    available = compute_available_gb()
    if available is not None and available < needed_gb:
        raise WhiskerError(
            f"memory for {subject}",
            expected=f"{needed_gb:.1f} GB free",
            got=f"{available:.1f} GB",
            hint="End something else, or run fewer environments at once.",
        )


def compute_available_gb(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> float | None:
    """What this process can still take: of the machine, and of its container where that allows less."""
    limits = [_available_on_machine(meminfo), _available_in_container(cgroup)]
    known = [limit for limit in limits if limit is not None]
    return min(known) / 1e9 if known else None


def _available_on_machine(meminfo: Path) -> int | None:
    """MemAvailable: free, and what the kernel would give back.

    None where there is no such file (macOS).
    """
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _available_in_container(cgroup: Path) -> int | None:
    """By control groups v2; file pages that are not in use do not count as taken.

    None without a limit.
    """
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        statistics = dict(
            line.split() for line in (cgroup / "memory.stat").read_text().splitlines()
        )
        return limit - used + int(statistics.get("inactive_file", 0))
    except (OSError, ValueError):  # also of "max": no limit
        return None
