"""Captures the features of a policy in its own forward pass.

No forward pass is run for a hook, and a hook changes none: the plans are the same to the last bit.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from unittest import mock

import numpy as np
import torch
from jaxtyping import Bool, Float32

from cknna.bank_description import EMBEDDING
from cknna.pooling import Pool, find_tensor, pool_rows
from policies.embeddings import EMBEDDING_POINTS, TOKENS_FIRST, EmbeddingPoint, TokenMask
from policies.policy import HookablePolicy
from sim.errors import WhiskerError

_MAX_CHILDREN_NAMED = 8

type _RowTensor = Float32[torch.Tensor, "row _dim"]
type _Mask = Bool[torch.Tensor, "row token"]


@dataclass(frozen=True)
class HookPoint:
    """One place in the network whose output is captured.

    Attributes:
        name: "embedding" for the type's own point, the module path for one of the user's.
        modules: path → module; their outputs make up one row together.
        take: returns the tensor in a module's output, or None if there is none.
        pool: how tokens become one vector.
        tokens_first: the output is `(tokens, B, D)`.
    """

    name: str
    modules: Mapping[str, torch.nn.Module]
    take: Callable[[Any], torch.Tensor | None]
    pool: Pool
    tokens_first: bool = False

    def read(self, output: Any) -> torch.Tensor | None:
        """Return the tensor in a module's output, with the batch as its first dimension."""
        tensor = self.take(output)
        if tensor is not None and tensor.ndim == 3 and self.tokens_first:
            return tensor.transpose(0, 1)
        return tensor


class FeatureHook:
    """Captures features of one policy at its type's embedding point and at the user's points.

    The embedding is complete when its module has been called as often as the table says. This
    divides a forward pass in two. Calls before it encode the observation: a module that is called
    several times gets one camera after the other, and their features are concatenated. Calls after
    it make the plan: of a module that is called in each denoising step, or for each decoded token,
    only the first call counts.

    Attributes:
        points: the hook points, the type's own first.
        embedding: the type's row of the table.
    """

    def __init__(
        self,
        policy: HookablePolicy,
        paths: Sequence[str] = (),
        pool: Pool | None = None,
    ) -> None:
        """Find the modules of the hook points.

        Args:
            paths: the user's own hook points.
            pool: pooling of their tokens; None means "masked-mean" if the type has a mask, else
                "mean".

        Raises:
            WhiskerError: a path does not exist, or the type has no mask for "masked-mean".
        """
        self.policy_type = policy.spec.type
        self.network = policy.network
        self.embedding: EmbeddingPoint = EMBEDDING_POINTS[self.policy_type]
        own_paths = self.embedding.paths(self.network)
        modules = {path: find_module(self.network, path) for path in own_paths}
        self.points = (
            HookPoint(EMBEDDING, modules, self.embedding.take, self._default_pool()),
            *(self._user_point(path, pool) for path in dict.fromkeys(paths)),
        )

    @contextmanager
    def listening(
        self,
        n_rows: int,
        *,
        stop_early: bool = False,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Capture the features of one forward pass with that many rows, then remove the hooks.

        Args:
            stop_early: end the block as soon as everything is captured, instead of at the end of
                the forward pass. Nothing is denoised or decoded, and the block returns nothing.

        Yields:
            hook point → float32 `(row, D)`, filled in when the block ends.

        Raises:
            WhiskerError: nothing was captured at a hook point.
        """
        capture = FeatureCapture(self, n_rows, stop_early)
        rows: dict[str, np.ndarray] = {}
        with ExitStack() as attached:
            capture.attach(attached)
            with suppress(StopForward):
                yield rows
        for point in self.points:
            rows[point.name] = capture.rows(point)

    def _user_point(
        self,
        path: str,
        pool: Pool | None,
    ) -> HookPoint:
        modules = {path: find_module(self.network, path)}
        if pool == "masked-mean" and self.embedding.token_mask is None:
            raise WhiskerError(
                f"--pool masked-mean of policy {self.policy_type!r}",
                expected="a policy type that masks tokens",
                got="one that does not",
                hint="Use --pool mean, first or last.",
            )
        prefixes = [f"{part}." for part in TOKENS_FIRST.get(self.policy_type, ())]
        tokens_first = f"{path}.".startswith(tuple(prefixes))
        return HookPoint(
            path,
            modules,
            find_tensor,
            pool or self._default_pool(),
            tokens_first,
        )

    def _default_pool(self) -> Pool:
        return "masked-mean" if self.embedding.token_mask else "mean"


class StopForward(BaseException):
    """Ends a forward pass from inside.

    It is no Exception, so that code which catches errors does not catch it.
    """


class FeatureCapture:
    """The features of one forward pass.

    Attributes:
        captured: hook point → the rows of each call that counts.
    """

    def __init__(
        self,
        hook: FeatureHook,
        n_rows: int,
        stop_early: bool,
    ) -> None:
        self._hook = hook
        self._n_rows = n_rows
        self._stop_early = stop_early
        self._mask: _Mask | None = None
        # None: the module is called once for the prefill, and then once for each decoded token.
        fires = hook.embedding.fires
        self._n_needed = 1 if fires is None else fires(hook.network.config)
        self.captured: dict[str, list[_RowTensor]] = {point.name: [] for point in hook.points}

    def attach(self, attached: ExitStack) -> None:
        """Attach the hooks to the network until the stack is closed."""
        token_mask = self._hook.embedding.token_mask
        if token_mask is not None:
            attached.enter_context(intercept_mask(self._hook.network, token_mask, self._keep_mask))
        # The embedding comes last, so that a user's point on the same module is captured while the
        # embedding is not yet complete.
        for point in reversed(self._hook.points):
            on_output = self._make_forward_hook(point)
            for module in point.modules.values():
                attached.enter_context(module.register_forward_hook(on_output))

    def rows(self, point: HookPoint) -> Float32[np.ndarray, "row _dim"]:
        """Return the features at a hook point, its calls side by side."""
        captured = self.captured[point.name]
        n_needed = self._n_needed if point.name == EMBEDDING else 1
        if len(captured) < n_needed:
            modules = ", ".join(point.modules)
            raise WhiskerError(
                f"hook point {point.name!r} ({modules}) of policy {self._hook.policy_type!r}",
                expected=f"{n_needed} call(s) in every prediction",
                got=str(len(captured)),
                hint="`cknna audit` shows which modules are called.",
            )
        return torch.cat(captured, dim=1).cpu().numpy()

    def _keep_mask(self, mask: torch.Tensor) -> None:
        if self._mask is None:
            self._mask = mask.bool()

    def _make_forward_hook(self, point: HookPoint) -> Callable[..., None]:
        captured = self.captured[point.name]

        def on_output(
            module: torch.nn.Module,
            arguments: tuple,
            output: Any,
        ) -> None:
            is_enough = bool(captured) or point.name == EMBEDDING
            if is_enough and self._is_complete():
                return
            captured.append(self._pool(point, output))
            if self._stop_early and self._is_complete() and all(self.captured.values()):
                raise StopForward

        return on_output

    def _is_complete(self) -> bool:
        return len(self.captured[EMBEDDING]) >= self._n_needed

    def _pool(
        self,
        point: HookPoint,
        output: Any,
    ) -> _RowTensor:
        tensor = point.read(output)
        if tensor is None:
            raise WhiskerError(
                f"hook point {point.name!r}",
                expected="a module that returns a tensor",
                got=type(output).__name__,
            )
        return pool_rows(
            tensor,
            self._n_rows,
            point.pool,
            self._mask_of(tensor),
            cameras_first=self._hook.embedding.cameras_first,
        )

    def _mask_of(self, output: torch.Tensor) -> _Mask | None:
        """Return the mask of the output's tokens.

        If the mask is only of the last tokens, those before them are real.
        """
        mask = self._mask
        token_mask = self._hook.embedding.token_mask
        if mask is None or token_mask is None or output.ndim != 3:
            return mask
        n_tokens = output.shape[1]
        if token_mask.goes_on:
            return mask[:, :n_tokens]
        if token_mask.of_last_tokens:
            n_before = max(0, n_tokens - mask.shape[1])
            return torch.cat([mask.new_ones(len(mask), n_before), mask], dim=1)
        return mask


def join_features(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return hook point → the rows of all parts, in their order."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@contextmanager
def intercept_mask(
    network: torch.nn.Module,
    token_mask: TokenMask,
    on_mask: Callable[[torch.Tensor], None],
) -> Iterator[None]:
    """Call `on_mask` with the mask of real tokens whenever lerobot computes or passes it."""
    owner = network.get_submodule(token_mask.path)
    method = getattr(owner, token_mask.method)
    signature = inspect.signature(method)

    def intercepted(*arguments, **named):
        result = method(*arguments, **named)
        mask = token_mask.take(signature.bind(*arguments, **named).arguments, result)
        if token_mask.only_token is not None:
            mask = mask == token_mask.only_token(network)
        on_mask(mask)
        return result

    with mock.patch.object(owner, token_mask.method, intercepted):
        yield


def find_module(
    network: torch.nn.Module,
    path: str,
) -> torch.nn.Module:
    """Return the submodule of that name.

    Raises:
        WhiskerError: there is none; the message gives the closest names.
    """
    # Shared modules have several names.
    modules = dict(network.named_modules(remove_duplicate=False))
    if path and path in modules:
        return modules[path]
    closest = get_close_matches(path, modules, cutoff=0.5)
    within = path
    while within and within not in modules:
        within = within.rpartition(".")[0]
    children = [name for name, _ in modules[within].named_children()]
    named = ", ".join(children[:_MAX_CHILDREN_NAMED]) or "no parts"
    raise WhiskerError(
        f"hook point {path!r}",
        expected=f"the name of a module in {type(network).__name__}",
        got=f"none; {within or 'the network'!r} has {named}",
        hint=f"Closest: {', '.join(closest)}." if closest else "",
    )
