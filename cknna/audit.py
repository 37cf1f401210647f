"""Reports what is hooked in a policy: modules, shapes, calls, masks, and what the features mean."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from os.path import commonprefix
from typing import Any

import numpy as np
import torch

from cknna.bank_description import EMBEDDING, AuditRow
from cknna.hooks import FeatureHook, HookPoint
from policies.policy import HookablePolicy, PolicySpec, make_memory
from sim.errors import WhiskerError
from sim.observation import Observation

type _Shape = tuple[int, ...]


def audit(
    policy: HookablePolicy,
    hook: FeatureHook,
    instruction: str,
    shown: Observation | None = None,
) -> list[AuditRow]:
    """Run one whole prediction on black images, and report the capture at each hook point.

    Args:
        shown: an observation of the environment or the recording, for what the policy reads there
            and its spec does not say.

    Raises:
        WhiskerError: a hook point is never called; the message names modules near it that are.
    """
    spec = policy.spec
    black = _make_black_observation(spec, instruction, shown)
    memory = make_memory(black, n_obs_steps=spec.n_obs_steps)
    calls: Counter[str] = Counter()
    shapes: dict[str, _Shape] = {}
    with _counted(hook.network, calls), _measured(hook, shapes):
        try:
            with hook.listening(1) as features:
                policy.predict([memory], [np.random.default_rng(0)])
        except WhiskerError:
            for point in hook.points:
                _check_called(point, hook, calls)
            raise
    return [
        _make_row(
            point,
            hook,
            calls,
            shapes[point.name],
            features[point.name].shape[1],
        )
        for point in hook.points
    ]


def _make_black_observation(
    spec: PolicySpec,
    instruction: str,
    shown: Observation | None,
) -> Observation:
    images = {camera: np.zeros((*size, 3), np.uint8) for camera, size in spec.image_sizes.items()}
    state_dim = spec.state_dim or 0
    if spec.state_dim is None and shown is not None:
        state_dim = len(shown.state)
    rotation = None if shown is None else shown.tool_rotation
    return Observation(images, np.zeros(state_dim, np.float32), instruction, rotation)


def _make_row(
    point: HookPoint,
    hook: FeatureHook,
    calls: Mapping[str, int],
    shape: _Shape,
    dim: int,
) -> AuditRow:
    embedding = hook.embedding
    is_own = point.name == EMBEDDING
    paths = tuple(point.modules)
    poolings = {3: f"{point.pool} over tokens", 4: "mean over space"}
    is_masked = len(shape) == 3 and point.pool != "mean" and embedding.token_mask is not None
    return AuditRow(
        name=point.name,
        paths=paths,
        module_class=type(point.modules[paths[0]]).__name__,
        output_shape=shape,
        n_fired=sum(calls[path] for path in paths),
        n_used=dim // (shape[0] * shape[1 if len(shape) == 4 else -1]),
        dim=dim,
        pooling=embedding.pooling if is_own else poolings.get(len(shape), "none"),
        mask=embedding.mask if is_masked else "",
        meaning=embedding.meaning if is_own else "",
        source=embedding.source if is_own else "",
    )


@contextmanager
def _counted(network: torch.nn.Module, calls: Counter[str]) -> Iterator[None]:
    """Count the calls of every module, under each of its names."""
    with ExitStack() as attached:
        for path, module in network.named_modules(remove_duplicate=False):
            handle = module.register_forward_pre_hook(lambda *_, path=path: calls.update([path]))
            attached.enter_context(handle)
        yield


@contextmanager
def _measured(hook: FeatureHook, shapes: dict[str, _Shape]) -> Iterator[None]:
    """Keep the shape of the first tensor at each hook point."""
    with ExitStack() as attached:
        for point in hook.points:

            def measure(
                module: torch.nn.Module,
                arguments: tuple,
                output: Any,
                point: HookPoint = point,
            ) -> None:
                tensor = point.read(output)
                if tensor is not None:
                    shapes.setdefault(point.name, tuple(tensor.shape))

            for module in point.modules.values():
                attached.enter_context(module.register_forward_hook(measure))
        yield


def _check_called(
    point: HookPoint,
    hook: FeatureHook,
    calls: Mapping[str, int],
) -> None:
    for path, module in point.modules.items():
        if calls[path]:
            continue
        kind = type(module).__name__
        reason = _explain_silence(path, module, calls)
        nearest = sorted(calls, key=lambda name: (_distance(path, name), name))
        raise WhiskerError(
            f"hook point {path!r} of policy {hook.policy_type!r}",
            expected="a module that is called in every prediction",
            got=f"{kind}, never called: {reason}",
            hint=f"Near it, these are: {', '.join(nearest[:5])}.",
        )


def _explain_silence(
    path: str,
    module: torch.nn.Module,
    calls: Mapping[str, int],
) -> str:
    """Return why the hook of a module was not called."""
    if isinstance(module, torch.nn.ModuleList | torch.nn.ModuleDict):
        return f"it is a {type(module).__name__}, which is never called itself"
    if any(name.startswith(f"{path}.") for name in calls):
        return "lerobot calls it as `.forward()`, which skips hooks"
    return "it has no part in a prediction"


def _distance(path: str, other: str) -> tuple[int, bool]:
    """Return the steps between two modules in the tree of names.

    Of two that are equally far, the one below `path` counts as nearer.
    """
    a = path.split(".")
    b = other.split(".")
    n_common = len(commonprefix([a, b]))
    return len(a) + len(b) - 2 * n_common, n_common < len(a)
