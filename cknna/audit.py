"""Reports what is hooked in a policy: modules, shapes, calls, masks, and what the features mean."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
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
) -> list[AuditRow]:
    """Run one whole prediction on black images, and report the capture at each hook point.

    Raises:
        WhiskerError: a hook point is never called; the message names modules near it that are.
    """
    observation = _blank_observation(policy.spec, instruction)
    memory = make_memory(observation, n_obs_steps=policy.spec.n_obs_steps)
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
    rows = []
    for point in hook.points:
        shape = shapes[point.name]
        _, dim = features[point.name].shape
        rows.append(_make_row(point, hook, calls, shape, dim))
    return rows


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
    is_masked = len(shape) == 3 and point.pool != "mean" and embedding.token_mask is not None
    return AuditRow(
        name=point.name,
        paths=paths,
        module_class=type(point.modules[paths[0]]).__name__,
        output_shape=shape,
        n_fired=sum(calls[path] for path in paths),
        n_used=dim // _count_numbers(shape),
        dim=dim,
        pooling=embedding.pooling if is_own else _describe_pooling(point, shape),
        mask=embedding.mask if is_masked else "",
        meaning=embedding.meaning if is_own else "",
        source=embedding.source if is_own else "",
    )


def _count_numbers(shape: _Shape) -> int:
    """Return how many numbers one call contributes to a row."""
    is_map = len(shape) == 4
    width = shape[1] if is_map else shape[-1]
    return shape[0] * width


def _describe_pooling(point: HookPoint, shape: _Shape) -> str:
    if len(shape) == 3:
        return f"{point.pool} over tokens"
    return "mean over space" if len(shape) == 4 else "none"


def _blank_observation(spec: PolicySpec, instruction: str) -> Observation:
    images = {}
    for camera, (height, width) in spec.image_sizes.items():
        images[camera] = np.zeros((height, width, 3), np.uint8)
    state = np.zeros(spec.state_dim or 0, np.float32)
    return Observation(images, state, instruction)


@contextmanager
def _counted(network: torch.nn.Module, calls: Counter[str]) -> Iterator[None]:
    """Count the calls of every module, under each of its names."""
    with ExitStack() as attached:
        for path, module in network.named_modules(remove_duplicate=False):

            def count(
                module: torch.nn.Module,
                arguments: tuple,
                path: str = path,
            ) -> None:
                calls[path] += 1

            handle = module.register_forward_pre_hook(count)
            attached.callback(handle.remove)
        yield


@contextmanager
def _measured(hook: FeatureHook, shapes: dict[str, _Shape]) -> Iterator[None]:
    """Keep the shape of the first tensor at each hook point."""

    def measure(point: HookPoint, output: Any) -> None:
        tensor = point.read(output)
        if tensor is not None:
            shapes.setdefault(point.name, tuple(tensor.shape))

    with ExitStack() as attached:
        for point in hook.points:
            for module in point.modules.values():
                handle = module.register_forward_hook(
                    lambda module, arguments, output, point=point: measure(point, output)
                )
                attached.callback(handle.remove)
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
    n_common = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n_common += 1
    return len(a) + len(b) - 2 * n_common, n_common < len(a)
