"""What a policy knows when it plans, heard in its own forward pass.

A forward pass is not run for a hook, and none is changed by one: the plans are the same to the last
bit.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32

from cknna.bank_description import EMBEDDING
from cknna.pooling import Pool, find_tensor, pool_rows
from policies.embeddings import EMBEDDING_POINTS, TOKENS_FIRST, EmbeddingPoint, TokenMask
from policies.policy import HookablePolicy
from sim.errors import WhiskerError


@dataclass(frozen=True)
class HookPoint:
    """One place to listen at.

    Attributes:
        name: "embedding" for the type's own, the path for one of the user's.
        modules: path → module; their outputs make up one row together.
        take: the tensor in a module's output; None if there is none.
        pool: how tokens become one vector.
        tokens_first: the output is `(tokens, B, D)`.
    """

    name: str
    modules: Mapping[str, torch.nn.Module]
    take: Callable[[Any], torch.Tensor | None]
    pool: Pool
    tokens_first: bool = False

    def read(self, output: Any) -> torch.Tensor | None:
        """The tensor in a module's output, the batch first."""
        tensor = self.take(output)
        return (
            tensor.transpose(0, 1)
            if self.tokens_first and tensor is not None and tensor.ndim == 3
            else tensor
        )


class FeatureHook:
    """Listens to one policy at its type's embedding point, and wherever else it is asked to.

    The embedding is complete when its module has fired as often as the table says; this divides a
    forward pass in two. What fires before is of what the policy looks at: a module that fires
    several times sees one camera after the other, which are put side by side. What fires after is
    of the plan that is made: of a module that fires in each denoising step, or for each token that
    is decoded, the first time counts.

    Attributes:
        points: the type's own first.
        embedding: the type's row of the table.
    """

    def __init__(
        self, policy: HookablePolicy, paths: Sequence[str] = (), pool: Pool | None = None
    ) -> None:
        """Args:
            paths: the user's own hook points.
            pool: of their tokens; None: "masked-mean" where the type has a mask, else "mean".

        Raises:
            WhiskerError: a path that there is not, a mask that there is not.
        """
        self.policy_type, self.network = policy.spec.type, policy.network
        self.embedding: EmbeddingPoint = EMBEDDING_POINTS[self.policy_type]
        self.points = (
            self._own_point(),
            *(self._user_point(path, pool) for path in dict.fromkeys(paths)),
        )

    @contextmanager
    def listening(
        self, n_rows: int, *, stop_early: bool = False
    ) -> Iterator[dict[str, np.ndarray]]:
        """Listen to one forward pass, of that many rows, and be gone.

        Args:
            stop_early: end the block as soon as all is heard, instead of the forward pass: nothing
                is denoised or decoded, and whatever the block was to return is lost.

        Yields:
            hook point → float32 `(row, D)`, filled in when the block ends.

        Raises:
            WhiskerError: a point that was not heard.
        """
        ear = _Ear(self, n_rows, stop_early)
        rows: dict[str, np.ndarray] = {}
        with ExitStack() as attached:
            ear.attach(attached)
            with suppress(_AllHeard):
                yield rows
        for point in self.points:
            rows[point.name] = ear.rows(point)

    def _own_point(self) -> HookPoint:
        modules = {
            path: find_module(self.network, path)
            for path in self.embedding.paths(self.network.config)
        }
        return HookPoint(EMBEDDING, modules, self.embedding.take, self._default_pool())

    def _user_point(self, path: str, pool: Pool | None) -> HookPoint:
        modules = {path: find_module(self.network, path)}
        if pool == "masked-mean" and self.embedding.token_mask is None:
            raise WhiskerError(
                f"--pool masked-mean of policy {self.policy_type!r}",
                expected="a policy type that masks tokens",
                got="one that does not",
                hint="Use --pool mean, first or last.",
            )
        tokens_first = any(
            f"{path}.".startswith(f"{part}.") for part in TOKENS_FIRST.get(self.policy_type, ())
        )
        return HookPoint(path, modules, find_tensor, pool or self._default_pool(), tokens_first)

    def _default_pool(self) -> Pool:
        return "masked-mean" if self.embedding.token_mask else "mean"


class _AllHeard(BaseException):
    """Ends a forward pass from inside; nothing that catches errors is to take it for one."""


class _Ear:
    """What is heard in one forward pass.

    Attributes:
        heard: hook point → the rows of each time that counts.
    """

    def __init__(self, hook: FeatureHook, n_rows: int, stop_early: bool) -> None:
        self._hook, self._n_rows, self._stop_early = hook, n_rows, stop_early
        self._mask: Bool[torch.Tensor, "row token"] | None = None
        fires = hook.embedding.fires
        # None: once for the prefill, and then a decoded token at a time.
        self._n_needed = 1 if fires is None else fires(hook.network.config)
        self.heard: dict[str, list[Float32[torch.Tensor, "row _dim"]]] = {
            point.name: [] for point in hook.points
        }

    def attach(self, attached: ExitStack) -> None:
        if self._hook.embedding.token_mask is not None:
            attached.enter_context(
                overheard(self._hook.network, self._hook.embedding.token_mask, self._keep_mask)
            )
        # The embedding last: a point of the user's on the same module is heard while it is not yet
        # complete.
        for point in reversed(self._hook.points):
            for module in point.modules.values():
                attached.callback(module.register_forward_hook(self._listener(point)).remove)

    def rows(self, point: HookPoint) -> Float32[np.ndarray, "row _dim"]:
        n_needed = self._n_needed if point.name == EMBEDDING else 1
        if len(self.heard[point.name]) < n_needed:
            raise WhiskerError(
                f"hook point {point.name!r} ({', '.join(point.modules)}) of policy {self._hook.policy_type!r}",
                expected=f"{n_needed} call(s) in every prediction",
                got=str(len(self.heard[point.name])),
                hint="`cknna audit` shows what is called.",
            )
        return torch.cat(self.heard[point.name], dim=1).cpu().numpy()

    def _keep_mask(self, mask: torch.Tensor) -> None:
        if self._mask is None:
            self._mask = mask.bool()

    def _listener(self, point: HookPoint) -> Callable[..., None]:
        def listen(module: torch.nn.Module, arguments: tuple, output: Any) -> None:
            heard = self.heard[point.name]
            if self._is_complete() and (heard or point.name == EMBEDDING):
                return
            heard.append(self._pool(point, output))
            if self._stop_early and self._is_complete() and all(self.heard.values()):
                raise _AllHeard

        return listen

    def _is_complete(self) -> bool:
        return len(self.heard[EMBEDDING]) >= self._n_needed

    def _pool(self, point: HookPoint, output: Any) -> Float32[torch.Tensor, "row _dim"]:
        tensor = point.read(output)
        if tensor is None:
            got = type(output).__name__
            raise WhiskerError(
                f"hook point {point.name!r}", expected="a module that returns a tensor", got=got
            )
        cameras_first = self._hook.embedding.cameras_first
        return pool_rows(
            tensor, self._n_rows, point.pool, self._mask_of(tensor), cameras_first=cameras_first
        )

    def _mask_of(self, output: torch.Tensor) -> Bool[torch.Tensor, "row token"] | None:
        token_mask, mask = self._hook.embedding.token_mask, self._mask
        if mask is None or token_mask is None or not token_mask.of_last_tokens or output.ndim != 3:
            return mask
        n_before = max(0, output.shape[1] - mask.shape[1])
        return torch.cat([mask.new_ones(len(mask), n_before), mask], dim=1)


@contextmanager
def overheard(
    network: torch.nn.Module, token_mask: TokenMask, hear: Callable[[torch.Tensor], None]
) -> Iterator[None]:
    """Hear the mask whenever lerobot passes by with it."""
    owner = network.get_submodule(token_mask.path)
    method = getattr(owner, token_mask.method)

    def listen(*arguments, **named):
        result = method(*arguments, **named)
        hear(token_mask.take(arguments, result))
        return result

    setattr(owner, token_mask.method, listen)
    try:
        yield
    finally:
        delattr(owner, token_mask.method)


def find_module(network: torch.nn.Module, path: str) -> torch.nn.Module:
    """The submodule of that name.

    Raises:
        WhiskerError: there is none; says the closest names.
    """
    # Shared modules have several names.
    modules = dict(network.named_modules(remove_duplicate=False))
    if path in modules and path:
        return modules[path]
    closest = get_close_matches(path, modules, n=3, cutoff=0.5)
    within = path
    while within and within not in modules:
        within = within.rpartition(".")[0]
    parts = [name for name, _ in modules[within].named_children()][:8]
    raise WhiskerError(
        f"hook point {path!r}",
        expected=f"the name of a module in {type(network).__name__}",
        got=f"none; {within or 'the network'!r} has {', '.join(parts) or 'no parts'}",
        hint=f"Closest: {', '.join(closest)}." if closest else "",
    )
