"""The code keeps the rules of the house: style, types, direction of imports, names."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("sim", "policies", "cknna", "eval", "viz", "tests")


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        # The configuration leaves these out, since the names of jaxtyping's axes look undefined.
        ["ruff", "check", ".", "--select", "F821,F811"],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["lint-imports"],
    ],
    ids=lambda command: "-".join(command[:2]),
)
def test_checker_is_content(command):
    bin_folder = Path(sys.executable).parent
    program, *arguments = command
    done = subprocess.run(
        [bin_folder / program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


PYTHON_FILES = [path for folder in PACKAGES for path in sorted((ROOT / folder).rglob("*.py"))]


def test_nobody_shadows_the_builtin_eval():
    for path in PYTHON_FILES:
        shadowing = re.search(r"^\s*import eval\b(?!.* as )", path.read_text(), re.MULTILINE)
        assert not shadowing, f"{path}: write `from eval.x import y`"


def test_no_file_is_named_like_a_module_it_would_hide():
    libraries = {"mujoco", "lerobot", "libero", "robosuite", "torch", "transformers"}
    # The package's name protects these modules, because they are always imported as
    # `eval.statistics` and so on.
    allowed = {"statistics", "__main__"}
    taken = (sys.stdlib_module_names | libraries) - allowed
    for path in PYTHON_FILES:
        assert path.stem not in taken, path


def test_docker_is_no_package():
    assert not (ROOT / "docker" / "__init__.py").exists()
