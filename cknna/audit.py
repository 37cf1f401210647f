"""What is hooked in a policy, and what that means: the table that people otherwise write by hand."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

from cknna.bank_description import EMBEDDING, AuditRow
from cknna.hooks import FeatureHook, HookPoint
from policies.policy import HookablePolicy, PolicySpec, make_memory
from sim.errors import WhiskerError
from sim.observation import Observation


def audit(policy: HookablePolicy, hook: FeatureHook, instruction: str) -> list[AuditRow]:
    """Run one whole prediction on black images, and say what was heard at each hook point.

    Raises:
        WhiskerError: a point that is never called; says which modules near it are.
    """
    observation = _blank_observation(policy.spec, instruction)
    calls: Counter[str] = Counter()
    shapes: dict[str, tuple[int, ...]] = {}
    with _counted(hook.network, calls), _measured(hook, shapes):
        try:
            with hook.listening(1) as features:
                memory = make_memory(observation, n_obs_steps=policy.spec.n_obs_steps)
                policy.predict([memory], [np.random.default_rng(0)])
        except WhiskerError:
            for point in hook.points:
                _check_called(point, hook, calls)
            raise
    return [_make_row(point, hook, calls, shapes, features) for point in hook.points]


def _make_row(
    point: HookPoint,
    hook: FeatureHook,
    calls: Mapping[str, int],
    shapes: Mapping[str, tuple[int, ...]],
    features: Mapping[str, np.ndarray],
) -> AuditRow:
    paths, embedding = tuple(point.modules), hook.embedding
    shape, dim, is_own = shapes[point.name], features[point.name].shape[1], point.name == EMBEDDING
    dim_of_one = shape[0] * (shape[1] if len(shape) == 4 else shape[-1])
    masks = len(shape) == 3 and point.pool != "mean" and embedding.token_mask is not None
    of_tokens = (
        f"{point.pool} over tokens"
        if len(shape) == 3
        else "mean over space"
        if len(shape) == 4
        else "none"
    )
    return AuditRow(
        name=point.name,
        paths=paths,
        module_class=type(point.modules[paths[0]]).__name__,
        output_shape=shape,
        n_fired=sum(calls[path] for path in paths),
        n_used=dim // dim_of_one,
        dim=dim,
        pooling=embedding.pooling if is_own else of_tokens,
        mask=embedding.mask if masks else "",
        meaning=embedding.meaning if is_own else "",
        source=embedding.source if is_own else "",
    )


def _blank_observation(spec: PolicySpec, instruction: str) -> Observation:
    images = {camera: np.zeros((*size, 3), np.uint8) for camera, size in spec.image_sizes.items()}
    return Observation(images, np.zeros(spec.state_dim or 0, np.float32), instruction)


@contextmanager
def _counted(network: torch.nn.Module, calls: Counter[str]) -> Iterator[None]:
    """Count the calls of every module, under each of its names."""
    with ExitStack() as attached:
        for path, module in network.named_modules(remove_duplicate=False):
            handle = module.register_forward_pre_hook(
                lambda module, arguments, path=path: calls.update([path])
            )
            attached.callback(handle.remove)
        yield


@contextmanager
def _measured(hook: FeatureHook, shapes: dict[str, tuple[int, ...]]) -> Iterator[None]:
    """Keep the shape of the first tensor at each hook point."""
    with ExitStack() as attached:
        for point in hook.points:

            def measure(module, arguments, output, point=point):
                if (tensor := point.read(output)) is not None:
                    shapes.setdefault(point.name, tuple(tensor.shape))

            for module in point.modules.values():
                attached.callback(module.register_forward_hook(measure).remove)
        yield


def _check_called(point: HookPoint, hook: FeatureHook, calls: Mapping[str, int]) -> None:
    for path, module in point.modules.items():
        if calls[path]:
            continue
        below = [name for name in calls if name.startswith(f"{path}.")]
        if isinstance(module, torch.nn.ModuleList | torch.nn.ModuleDict):
            why = f"it is a {type(module).__name__}, which is never called itself"
        elif below:
            why = "lerobot calls it as `.forward()`, which no hook hears"
        else:
            why = "it has no part in a prediction"
        nearest = sorted(calls, key=lambda name: (_distance(path, name), name))[:5]
        raise WhiskerError(
            f"hook point {path!r} of policy {hook.policy_type!r}",
            expected="a module that is called in every prediction",
            got=f"{type(module).__name__}, never called: {why}",
            hint=f"Near it, these are: {', '.join(nearest)}.",
        )


def _distance(path: str, other: str) -> tuple[int, bool]:
    """Steps from one module to the other in the tree of names; of two equally far, one below is nearer."""
    a, b = path.split("."), other.split(".")
    n_common = next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    return len(a) + len(b) - 2 * n_common, n_common < len(a)
