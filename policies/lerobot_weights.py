"""Load a policy's network with its weights, and verify that every tensor came from the file.

Some of lerobot's types print a mismatch and keep random weights.
"""

import contextlib
import dataclasses
import io
import logging
import sys
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class
from lerobot.policies.pretrained import PreTrainedPolicy

from policies.checkpoint_files import STATISTICS_MODULES, has_statistics_in_weights
from policies.lerobot_errors import describe_error, find_names, refuse_absent_folder
from policies.lerobot_types import LEROBOT_TYPES
from sim.errors import WhiskerError

_N_NAMES_SHOWN = 5


def load_network(config: PreTrainedConfig, folder: Path) -> PreTrainedPolicy:
    """Return the policy's network, in evaluation mode.

    Raises:
        WhiskerError: the network cannot be made, or its tensors and those of the file differ.
    """
    policy_class = get_policy_class(config.type)
    try:
        with (
            silenced(),
            _recorded_load(policy_class) as load,
            skip_weight_init(),
            _skip_backbone_weights(config.type),
        ):
            policy = policy_class.from_pretrained(folder, config=config, strict=False)
    except (RuntimeError, ValueError, KeyError, OSError, ImportError) as error:
        if load.result or load.error:
            raise _misfit(folder, str(error)) from error
        refuse_absent_folder(f"checkpoint {str(folder)!r}, network", [vars(config)])
        raise _not_made(folder, config, error) from error
    if load.result is None:
        got = load.error or "a network whose weights were never loaded: they are random"
        raise _misfit(folder, got)
    missing = find_untied(policy, set(load.result.missing_keys))
    optional = _optional_modules(config.type, folder)
    keys = load.result.unexpected_keys
    unexpected = {name for name in keys if not name.startswith(optional)}
    if missing or unexpected:
        parts = (_list("missing", missing), _list("not in the network", unexpected))
        raise _misfit(folder, "; ".join(filter(None, parts)))
    return policy.eval()


def find_untied(policy: torch.nn.Module, missing: set[str]) -> set[str]:
    """Return the missing weights that do not share their memory with one that was loaded."""
    state = policy.state_dict(keep_vars=True)
    pointers = {name: tensor.data_ptr() for name, tensor in state.items()}
    loaded = {pointer for name, pointer in pointers.items() if name not in missing}
    return {name for name in missing if pointers.get(name) not in loaded}


@contextlib.contextmanager
def skip_weight_init() -> Iterator[None]:
    """Let constructors leave weights uninitialised: drawing a Pi0's takes five minutes on a CPU.

    This is safe because every weight comes from the file: one that does not is refused. What is not
    in a state dict (rotary frequencies, position ids) is computed in the constructors and not
    drawn. transformers' own `from_pretrained` (GR00T's base model) is not affected: it fills in
    missing weights by `initialize_weights`.

    A type without transformers draws its weights. It is small, and transformers would have to be
    imported, which takes longer.
    """
    if "transformers" not in sys.modules:
        yield
        return
    from transformers import PreTrainedModel
    from transformers.initialization import no_init_weights

    with no_init_weights():
        # transformers' switch also skips the tying of weights, which is needed. It restores
        # `init_weights` itself.
        PreTrainedModel.init_weights = lambda model: model.tie_weights(recompute_mapping=False)
        yield


@contextlib.contextmanager
def _skip_backbone_weights(policy_type: str) -> Iterator[None]:
    """Let lerobot make a backbone from its configuration, without weights of its own.

    This is safe for the same reason: the checkpoint's weights replace all of them. Otherwise they
    would be downloaded, and read, for nothing.
    """
    place = LEROBOT_TYPES[policy_type].backbone_loader
    if not place:
        yield
        return
    module, _, name = place.rpartition(".")
    loader = getattr(import_module(module), name)
    builder = SimpleNamespace(from_pretrained=partial(_make_backbone, loader))
    with mock.patch(place, builder):
        yield


def _make_backbone(
    loader: Any,
    name: str,
    *,
    torch_dtype: torch.dtype,
    low_cpu_mem_usage: bool = False,
    attn_implementation: str | None = None,
    **hub_options: Any,
) -> torch.nn.Module:
    """Return what a class of transformers makes of a model's configuration.

    Args:
        name: a folder or a hub id.
        low_cpu_mem_usage: how weights would be read.
        hub_options: for the download of the configuration.
    """
    from transformers import AutoConfig

    del low_cpu_mem_usage
    config = AutoConfig.from_pretrained(name, dtype=torch_dtype, **hub_options)
    options = {"attn_implementation": attn_implementation} if attn_implementation else {}
    # A class for several models has `from_config`, that of one model has the other.
    make = getattr(loader, "from_config", None) or loader._from_config
    return make(config, **options)


def _optional_modules(policy_type: str, folder: Path) -> tuple[str, ...]:
    """Return prefixes of the names of weights that a file may have besides the network's own."""
    statistics = STATISTICS_MODULES if has_statistics_in_weights(folder) else ()
    return statistics + LEROBOT_TYPES[policy_type].training_modules


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Suppress lerobot's output while it loads; the checks here report what matters.

    On a console that cannot print lerobot's check marks, some types would otherwise go on with
    random weights.
    """
    output = io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            yield
    finally:
        logging.disable(logging.NOTSET)


@dataclasses.dataclass
class _LoadReport:
    """Holds what the last `load_state_dict` returned, and the last error of one."""

    result: Any = None
    error: str = ""


@contextlib.contextmanager
def _recorded_load(policy_class: type[PreTrainedPolicy]) -> Iterator[_LoadReport]:
    """Record the result of the class's `load_state_dict`, which some types only print."""
    report = _LoadReport()

    def load_state_dict(self, *args, **kwargs):
        try:
            report.result = super(policy_class, self).load_state_dict(*args, **kwargs)
        except RuntimeError as error:
            report.error = str(error)
            raise
        return report.result

    policy_class.load_state_dict = load_state_dict
    try:
        yield report
    finally:
        del policy_class.load_state_dict


def _not_made(
    folder: Path,
    config: PreTrainedConfig,
    error: Exception,
) -> WhiskerError:
    """Return the error for a network that could not be made, with all names in its config.

    transformers does not say which of them it looked for.
    """
    names = find_names(vars(config)).values()
    listed = ", ".join(names)
    expected = f"all that its config.json names ({listed}), here or in the cache"
    hint = "Offline, name local folders."
    if names and all(Path(name).is_dir() for name in names):
        expected = f"a config.json that lerobot can make it of, with {listed}"
        hint = ""
    return WhiskerError(
        f"checkpoint {str(folder)!r}, network",
        expected=expected,
        got=describe_error(error),
        hint=hint,
    )


def _misfit(folder: Path, got: str) -> WhiskerError:
    return WhiskerError(
        f"checkpoint {str(folder)!r}, weights",
        expected="exactly the tensors of its config.json",
        got=got,
        hint="Config and weights are from different trainings, or the file is incomplete.",
    )


def _list(label: str, names: set[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(sorted(names)[:_N_NAMES_SHOWN])
    if len(names) > _N_NAMES_SHOWN:
        shown += ", ..."
    return f"{len(names)} {label} ({shown})"
