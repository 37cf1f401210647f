"""Checks that SimplerEnv's tasks can be simulated: packages, assets and the Vulkan driver.

    ./run --extra simpler python -m sim.simpler_bench.installation

says what is missing, without the assets. The import is light: no simulator is imported. ManiSkill
itself would ask to download what is missing, or end with a traceback.
"""

import os
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sim.errors import WhiskerError
from sim.simpler_bench.asset_files import is_whole
from sim.simpler_bench.tasks import SimplerTask

PACKAGES = {"mani-skill": "3.0.1", "sapien": "3.0.3"}
INSTALL = "./run --extra simpler eval ..."
# ManiSkill's command takes one asset at a time.
DOWNLOAD = "Download it: ./run --extra simpler python -m mani_skill.utils.download_asset"
_DATASET = Path("tasks/bridge_v2_real2sim_dataset")
_ROBOT = Path("robots/widowx")
# docker/install.sh unpacks the driver here on Debian 12, and leaves the machine's own Mesa alone.
_UNPACKED_DRIVER = Path(__file__).parents[2] / ".uv/vulkan/lvp_icd.json"
_SYSTEM_DRIVERS = Path("/usr/share/vulkan/icd.d")
# What to do without a driver, by whether the user has named one.
_DRIVER_HINTS = {
    False: f"This installs it on Debian 12 and 13: {INSTALL}",
    True: f"Unset VK_ICD_FILENAMES and VK_DRIVER_FILES, and this installs it on Debian: {INSTALL}",
}


def check_packages() -> None:
    """Raise unless the extra is installed, in exactly the versions that were tested.

    Raises:
        WhiskerError: the message says what to install.
    """
    for package, expected in PACKAGES.items():
        try:
            installed = version(package)
        except PackageNotFoundError:
            installed = "none"
        if installed != expected:
            raise WhiskerError(
                f"package {package!r} for SimplerEnv",
                expected=expected,
                got=installed,
                hint=f"It belongs to the extra `simpler`: {INSTALL}",
            )


def asset_folder() -> Path:
    """Return the folder of ManiSkill's assets, where ManiSkill itself looks."""
    base = os.environ.get("MS_ASSET_DIR") or Path.home() / ".maniskill"
    return Path(base) / "data"


def check_assets(task: SimplerTask) -> None:
    """Raise unless every file that a task needs is there and complete.

    Raises:
        WhiskerError: names the first file that is missing, or a model that another version lacks.
    """
    folder = asset_folder()
    database = _DATASET / "custom" / task.model_file
    files = [
        database,
        _DATASET / "real_inpainting" / task.photograph,
        _DATASET / "stages" / task.stage,
        _ROBOT / "wx250s.urdf",
    ]
    for file in files:
        _check_file(folder, file)
    for model in task.models:
        if f'"{model}"' not in (folder / database).read_text():
            raise WhiskerError(
                f"assets of SimplerEnv in {str(folder)!r}",
                expected=f"the object {model!r} in {database}",
                got="files of another version",
                hint=f"{DOWNLOAD} bridge_v2_real2sim",
            )
        models = _DATASET / "custom/models" / model
        _check_file(folder, models / "collision.obj")
        if not any(
            (folder / models / f"textured.{suffix}").is_file() for suffix in ("obj", "dae", "glb")
        ):
            _check_file(folder, models / "textured.dae")
        # The textures are among them.
        for path in sorted((folder / models).iterdir()):
            _check_file(folder, path.relative_to(folder))
    for mesh in re.findall(r'filename="([^"]+)"', (folder / _ROBOT / "wx250s.urdf").read_text()):
        _check_file(folder, _ROBOT / mesh)


def find_driver() -> Path:
    """Return the description of the software renderer that SAPIEN should use.

    Raises:
        WhiskerError: there is none.
    """
    named = _find_named_drivers()
    if named:
        candidates = [Path(named.split(":")[0])]
    else:
        candidates = [_UNPACKED_DRIVER, *sorted(_SYSTEM_DRIVERS.glob("lvp_icd*.json"))]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise WhiskerError(
        "Vulkan driver for SimplerEnv",
        expected="Mesa's software renderer lavapipe, 25.0 or later",
        got=f"no file {named!r}" if named else "none",
        hint=_DRIVER_HINTS[bool(named)],
    )


def start_renderer() -> None:
    """Let SAPIEN render on the CPU, from now on and in all of this process.

    Raises:
        WhiskerError: there is no driver, or SAPIEN refuses it, as it does Debian 12's own Mesa 22.
    """
    is_named = bool(_find_named_drivers())
    os.environ["VK_ICD_FILENAMES"] = str(find_driver())
    import sapien.render

    try:
        sapien.render.RenderSystem("cpu")
    except RuntimeError as error:
        raise WhiskerError(
            "Vulkan driver for SimplerEnv",
            expected="Mesa's software renderer lavapipe, 25.0 or later",
            got=f"{os.environ['VK_ICD_FILENAMES']}, with which SAPIEN says: {error}",
            hint=_DRIVER_HINTS[is_named],
        ) from error


def _find_named_drivers() -> str:
    """Return the files that a variable of Vulkan's names; "" if none does."""
    return os.environ.get("VK_ICD_FILENAMES") or os.environ.get("VK_DRIVER_FILES") or ""


def _check_file(folder: Path, file: Path) -> None:
    path = folder / file
    if path.is_file() and is_whole(path):
        return
    found = "none"
    if path.is_file():
        found = "a file that was cut off" if path.stat().st_size else "an empty file"
    asset = "widowx250s" if _ROBOT in file.parents else "bridge_v2_real2sim"
    raise WhiskerError(
        f"assets of SimplerEnv in {str(folder)!r}",
        expected=str(file),
        got=found,
        hint=f"{DOWNLOAD} {asset}",
    )


def main() -> int:
    """Run `python -m sim.simpler_bench.installation`."""
    try:
        check_packages()
        start_renderer()
    except WhiskerError as error:
        print(f"installation: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
