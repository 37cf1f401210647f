"""Tests which Python `./run` and `docker/install.sh` accept, and their errors without one."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_scripts_accept_the_pythons_that_the_package_supports():
    supported = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    for script in ("run", "docker/install.sh"):
        (default,) = re.findall(r"\$\{UV_PYTHON:-([^}]+)\}", (ROOT / script).read_text())
        assert default == supported, script


@pytest.fixture
def install(tmp_path):
    """Run a copy of `install.sh` on a machine whose release has no package at all.

    Only Debian's tools are stand-ins: they would need root and the network.
    """
    shutil.copytree(ROOT / "docker", tmp_path / "docker")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, body in {
        "apt-get": f'echo "$@" >>"{tmp_path}/apt-get.log"',
        "apt-cache": "exit 100",
        "sudo": '"$@"',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    path = (tools, ROOT / ".uv/bin", Path(sys.executable).parent, os.environ["PATH"])
    log = tmp_path / "apt-get.log"
    log.touch()

    def run(**settings):
        settings |= {"PATH": os.pathsep.join(map(str, path)), "UV_PYTHON_DOWNLOADS": "never"}
        done = subprocess.run(
            tmp_path / "docker/install.sh",
            cwd=ROOT,  # where a shim of pyenv finds uv
            env=os.environ | settings,
            capture_output=True,
            text=True,
        )
        return done, log.read_text().splitlines()

    return run


def test_a_supported_python_that_is_there_is_enough(install):
    done, asked = install()
    assert done.returncode == 0
    assert done.stdout == done.stderr == ""
    assert asked == []


def test_without_a_python_one_sentence_says_what_to_install(install):
    done, asked = install(UV_PYTHON=">=3.99")
    assert done.returncode == 1
    assert not done.stdout
    assert asked == ["-qq update"]
    assert done.stderr.count("\n") == 1
    assert "install Python 3.12 or 3.13 and start again." in done.stderr


@pytest.fixture
def project(tmp_path):
    """Return a project with our `./run` and one package, which comes from a wheel."""
    shutil.copytree(ROOT / "docker", tmp_path / "docker")
    shutil.copy(ROOT / "run", tmp_path)
    with zipfile.ZipFile(tmp_path / "probe-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("probe.py", "ANSWER = 42\n")
        info = "probe-1.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: probe\nVersion: 1\n")
        tags = "Root-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\n{tags}")
        wheel.writestr(f"{info}/RECORD", f"probe.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "small"\nversion = "1"\nrequires-python = ">=3.12,<3.14"\n'
        'dependencies = ["probe"]\n'
        "[tool.uv]\npackage = false\n"
        '[tool.uv.sources]\nprobe = { path = "probe-1-py3-none-any.whl" }\n'
    )
    return tmp_path


def test_a_new_environment_is_compiled_and_a_later_start_compiles_nothing(project):
    path = os.pathsep.join([str(ROOT / ".uv/bin"), os.environ["PATH"]])
    settings = os.environ | {"PATH": path, "UV_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("PYTHONPYCACHEPREFIX", "UV_COMPILE_BYTECODE", "UV_PROJECT_ENVIRONMENT"):
        settings.pop(name, None)
    command = [project / "run", "python", "-c", "import probe; print(probe.ANSWER)"]
    for is_new in (True, False):
        printed = subprocess.check_output(command, cwd=project, env=settings, text=True)
        assert printed == "42\n"
        compiled = list((project / ".venv").glob("lib/*/site-packages/__pycache__/probe.*.pyc"))
        assert bool(compiled) is is_new
        for file in compiled:
            file.unlink()
