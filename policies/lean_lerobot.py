"""Import lerobot without what no rollout uses: two thirds of its time.

The packages of lerobot import all of their modules when one of them is asked for. One policy thus
brings the networks of all others, motors and teleoperators, and with these diffusers, datasets and
pandas. `lean_lerobot` leaves that out:

- An `__init__` that only re-exports names is read as a table of names. A name is imported when it
  is first asked for.
- Optional packages that only training and adapters use count as absent, by lerobot's own switches.
- torchvision is imported without PyTorch's compiler, of which it takes one function and one
  decorator. The compiler brings sympy and hundreds of modules of its own.

What a module registers as it is imported (types, steps of processors) is missing until then.
`load_exports` imports the rest of one package, and `load_all` the rest of all.
"""

import ast
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

# Name → (the module that has it, its name there).
type Exports = dict[str, tuple[str, str]]

_LIBRARY = "lerobot"
# lerobot's module → the optional package's module, and the names that it takes from it.
_OPTIONAL_NAMES = {
    "lerobot.optim.schedulers": ("diffusers.optimization", ("get_scheduler",)),
    "lerobot.policies.factory": ("peft", ("PeftConfig", "PeftModel")),
    "lerobot.policies.pretrained": (
        "peft",
        ("PEFT_TYPE_TO_CONFIG_MAPPING", "PeftType", "get_peft_model"),
    ),
}
# The module of PyTorch's compiler that torchvision takes a function from.
_COMPILER = "torch._dynamo.utils"
_packages: list["LazyPackage"] = []


class LazyPackage(ModuleType):
    """Looks up a re-exported name when it is first asked for."""

    def __init__(self, name: str, exports: Exports) -> None:
        super().__init__(name)
        self.exports = exports
        self.__all__ = sorted(exports)  # what `from package import *` asks for

    def __getattr__(self, name: str) -> object:
        if name not in self.exports:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        module, name_there = self.exports[name]
        value = getattr(import_module(module), name_there)
        setattr(self, name, value)
        return value


class _LazyLoader(SourceFileLoader):
    """Makes a `LazyPackage` of an `__init__` that has been read as a table."""

    def __init__(self, name: str, path: str, exports: Exports) -> None:
        super().__init__(name, path)
        self._exports = exports

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return LazyPackage(spec.name, self._exports)

    def exec_module(self, module: ModuleType) -> None:
        assert isinstance(module, LazyPackage)
        _packages.append(module)


class _LazyFinder(MetaPathFinder):
    """Finds the library's packages whose `__init__` can be read as a table."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{_LIBRARY}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.submodule_search_locations is None or spec.origin is None:
            return None
        exports = read_exports(Path(spec.origin).read_text(encoding="utf-8"), fullname)
        if exports is None:
            return None
        spec.loader = _LazyLoader(fullname, spec.origin, exports)
        return spec


class _LateModule(ModuleType):
    """Stands for a module of functions that is imported when one of them is first called."""

    def __getattr__(self, name: str) -> Callable[..., object]:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments: object, **options: object) -> object:
            return getattr(import_module(self.__name__), name)(*arguments, **options)

        return call


@contextmanager
def lean_lerobot() -> Iterator[None]:
    """Import only what is used of lerobot, as far as its modules are first imported in here."""
    _import_torchvision()
    flags = vars(import_module("lerobot.utils.import_utils"))
    optional = {source.partition(".")[0] for source, _ in _OPTIONAL_NAMES.values()}
    switches = {f"_{package}_available": False for package in optional}
    before = {name: flags[name] for name in switches}
    finder = _LazyFinder()
    sys.meta_path.insert(0, finder)
    flags.update(switches)
    try:
        yield
    finally:
        flags.update(before)
        sys.meta_path.remove(finder)


def _import_torchvision() -> None:
    """Import torchvision, but not the compiler.

    `torch.compiler.disable` marks a function that the compiler is to leave alone. It imports the
    compiler to do so, and torchvision has one such function, which no policy calls.
    """
    if "torch._dynamo" in sys.modules or "torchvision" in sys.modules:
        return
    compiler = import_module("torch.compiler")
    disable = compiler.disable
    compiler.disable = lambda function: function  # type: ignore[attr-defined]
    sys.modules[_COMPILER] = _LateModule(_COMPILER)
    try:
        import_module("torchvision")
        import_module("torchvision.transforms.v2")
    finally:
        compiler.disable = disable  # type: ignore[attr-defined]
        del sys.modules[_COMPILER]


def load_exports(package: str) -> None:
    """Import all that a package re-exports, as its own `__init__` does."""
    module = import_module(package)
    if isinstance(module, LazyPackage):
        for name in module.exports:
            getattr(module, name)


def load_all() -> None:
    """Import all that was left out, for code that is not Whisker's."""
    for package in _packages:
        load_exports(package.__name__)
    for module, (source, names) in _OPTIONAL_NAMES.items():
        if module in sys.modules:
            for name in names:
                setattr(sys.modules[module], name, getattr(import_module(source), name))


def read_exports(source: str, package: str) -> Exports | None:
    """Return what an `__init__` re-exports; None if it does anything else.

    Args:
        source: the text of the file.
        package: the full name of the package.
    """
    exports: Exports = {}
    for statement in ast.parse(source).body:
        match statement:
            case ast.ImportFrom(module=str(module), names=names, level=level) if level <= 1:
                where = f"{package}.{module}" if level else module
                for alias in names:
                    exports[alias.asname or alias.name] = (where, alias.name)
            case ast.Expr(value=ast.Constant()):
                pass  # a docstring
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                pass
            case _:
                return None
    # A submodule of that name would take the place of the export when it is imported.
    is_clear = all(where.rpartition(".")[2] != name for name, (where, _) in exports.items())
    return exports if is_clear and "*" not in exports else None
