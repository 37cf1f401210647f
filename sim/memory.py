"""Checks whether there is memory for one more environment.

Without the check, the system kills a process without a message when memory runs out.
"""

from pathlib import Path

from sim.errors import WhiskerError

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def check_memory(subject: str, needed_gb: float) -> None:
    """Raise `WhiskerError` if less than `needed_gb` (10⁹ bytes) is available.

    If the available memory is unknown, the check passes.
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
    """Return the memory that this process can still use, 10⁹ bytes; None if it is unknown.

    It is the smaller of the machine's and the container's.
    """
    limits = [_available_on_machine(meminfo), _available_in_container(cgroup)]
    known = [limit for limit in limits if limit is not None]
    return min(known) / 1e9 if known else None


def _available_on_machine(meminfo: Path) -> int | None:
    """Return MemAvailable: free memory, and what the kernel would give back.

    None if there is no such file (macOS).
    """
    try:
        return (
            int(
                dict(line.split(":", 1) for line in meminfo.read_text().splitlines())[
                    "MemAvailable"
                ].split()[0]
            )
            * 1024
        )
    except (OSError, KeyError, ValueError):
        return None


def _available_in_container(cgroup: Path) -> int | None:
    """Return what control groups v2 still allow; None without a limit.

    Inactive file pages do not count as used.
    """
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        return (
            limit
            - used
            + int(
                dict(map(str.split, (cgroup / "memory.stat").read_text().splitlines())).get(
                    "inactive_file", 0
                )
            )
        )
    except (OSError, ValueError):  # "max", which means no limit, is a ValueError
        return None
