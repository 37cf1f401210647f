"""Code of the user is imported by name, and every failure has one clear message."""

import sys

import pytest

from sim.errors import WhiskerError
from sim.user_code import (
    call_factory,
    find_entry_points,
    import_attribute,
    look_in_current_directory,
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Change to a folder that is on no module path, and forget its modules afterwards."""
    known = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def test_a_module_of_the_current_folder_is_found_and_hides_no_installed_one(folder, monkeypatch):
    (folder / "own_package").mkdir()
    (folder / "own_package" / "inner.py").write_text("class A:\n    make = 3\n")
    (folder / "yaml.py").write_text("make = 'mine'\n")
    look_in_current_directory()
    assert import_attribute("--policy", "own_package.inner:A.make") == 3
    monkeypatch.delitem(sys.modules, "yaml", raising=False)
    assert callable(import_attribute("--policy", "yaml:safe_load"))


def test_a_folder_that_is_called_as_an_installed_package_is_named_as_the_reason(folder):
    (folder / "yaml").mkdir()
    (folder / "yaml" / "mine.py").write_text("make = 1\n")
    look_in_current_directory()
    with pytest.raises(WhiskerError, match=r"package is also called 'yaml' and comes first: give"):
        import_attribute("--policy", "yaml.mine:make")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own:", r"expected package\.module:attribute, got 'own:'"),
        ("own:1a", r"expected package\.module:attribute"),
        ("a b:c", r"expected package\.module:attribute"),
        ("C:/own.py:make", r"expected package\.module:attribute"),
        ("own", r"expected package\.module:attribute"),
        (
            "owm:make",
            r"a module 'owm' that can be imported, got ModuleNotFoundError.*"
            r"Start the command in the folder",
        ),
        (
            "own.inner:make",
            r"'own\.inner' that can be imported.*not a package.*folder that has 'own'",
        ),
        (
            "lacking:make",
            r"got ModuleNotFoundError: No module named 'absent_library' "
            r"\(.*lacking.py, line 1\)\. The",
        ),
        (
            "failing:make",
            r"got ValueError: two lines \(.*failing.py, line 1\)\. The module itself fails",
        ),
        ("own:mak", r"an attribute 'mak' of module 'own', got none of that name; it has make"),
        ("own:make.mak", r"an attribute 'mak' of 'make', got none of that name; it has made"),
    ],
)
def test_what_cannot_be_imported_is_named_with_the_reason(folder, name, said):
    (folder / "own.py").write_text("class make:\n    made = 1\n")
    (folder / "lacking.py").write_text("import absent_library\n")
    (folder / "failing.py").write_text("raise ValueError('two\\nlines')\n")
    look_in_current_directory()
    with pytest.raises(WhiskerError, match=rf"^--policy {name}: .*{said}"):
        import_attribute(f"--policy {name}", name)


def test_a_refusal_of_the_users_own_passes_as_it_is(folder):
    (folder / "refusing.py").write_text(
        "from sim.errors import WhiskerError\nraise WhiskerError('my arm')\n"
    )
    look_in_current_directory()
    with pytest.raises(WhiskerError, match=r"^my arm\.$"):
        import_attribute("--policy x", "refusing:make")


def fail(env, device):
    raise KeyError("weights")


def refuse(env, device):
    raise WhiskerError("my arm")


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (3, r"^x: expected a function of \(env, device\), got a int"),
        (lambda env: env, r"^x: expected a function of \(env, device\), got one of \(env\)"),
        (lambda env, device, seed: env, r"got one of \(env, device, seed\)"),
        (fail, r"^x: expected a factory that does not fail, got KeyError: 'weights'"),
        (refuse, r"^my arm\.$"),
    ],
)
def test_a_factory_that_cannot_be_called_is_named_with_the_reason(factory, said):
    with pytest.raises(WhiskerError, match=said):
        call_factory("x", factory, env=1, device=2)


def test_a_factory_is_called_by_the_names_of_its_arguments():

    def make(device, env, seed=7):
        return env, device, seed

    assert call_factory("x", make, env=1, device=2) == (1, 2, 7)
    given = call_factory("x", lambda **given: given, env=1, device=2)
    assert given == {"env": 1, "device": 2}


def test_entry_points_are_read_from_what_is_installed(tmp_path, monkeypatch):
    assert find_entry_points("whisker.tests") == {}
    info = tmp_path / "own-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[whisker.tests]\none = own.inner:make\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_entry_points("whisker.tests") == {"one": "own.inner:make"}
