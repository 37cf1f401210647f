"""The code keeps the rules of the house: style, types, direction of imports, names."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("sim", "policies", "cknna", "eval", "viz")


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["lint-imports"]],
    ids=lambda command: "-".join(command[:2]),
)
def test_checker_is_content(command):
    bin_folder = Path(sys.executable).parent
    done = subprocess.run(
        [bin_folder / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def python_files():
    return [p for package in (*PACKAGES, "tests") for p in sorted((ROOT / package).rglob("*.py"))]


def test_nobody_shadows_the_builtin_eval():
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                shadowing = [
                    a.name
                    for a in node.names
                    if a.name.split(".")[0] == "eval" and a.asname is None
                ]
                assert not shadowing, f"{path}: write `from eval.x import y`"


def test_no_file_is_named_like_a_module_it_would_hide():
    taken = set(sys.stdlib_module_names) | {
        "mujoco",
        "lerobot",
        "libero",
        "robosuite",
        "torch",
        "transformers",
    }
    # The package's name protects these modules, because they are always imported as
    # `eval.statistics` and so on.
    allowed = {"statistics", "__main__"}
    for path in python_files():
        assert path.stem not in taken - allowed, path


def test_docker_is_no_package():
    assert not (ROOT / "docker" / "__init__.py").exists()
