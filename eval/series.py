"""Series: what is recorded of an episode beside its states, actions and plans, one number a row.

A series is computed in one place and declared in another (`eval.declared_series`). Recorder, run
folder, page, films and report carry it from there without knowing its name.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64

from sim.env import Env, StepResult

type Axis = Literal["moment", "step", "prediction"]


@dataclass(frozen=True)
class SoFar:
    """An episode as far as it is, from which series are computed: the last of each is what has just happened.

    Attributes:
        env: in the state of now.
        results: one a control step, like `actions`.
        plans: the executed ones, `(horizon, action_dim)` each; one a prediction, like
            `prediction_steps`.
    """

    env: Env
    actions: Sequence[Float32[np.ndarray, " action_dim"]]
    results: Sequence[StepResult]
    prediction_steps: Sequence[int]
    plans: Sequence[Float32[np.ndarray, "horizon action_dim"]]


@dataclass(frozen=True)
class Series:
    """A named array of an episode of T control steps and P predictions.

    Attributes:
        name: of the array, the unit as its suffix.
        unit: "" for a number without one.
        axis: what a row stands for. "moment": T + 1 rows, the world before each step and at the
            end; "step": T; "prediction": P.
        meaning: one sentence.
        is_reproducible: it is the same on every run of the same thing.
        compute: returns the number of a new row. None: it comes with the policy's chunk
            (`ActionChunk.signals`).
    """

    name: str
    unit: str
    axis: Axis
    meaning: str
    is_reproducible: bool = True
    compute: Callable[[SoFar], float] | None = field(default=None, compare=False, repr=False)

    @property
    def title(self) -> str:
        """The name for people, without its unit."""
        return self.name.removesuffix(f"_{self.unit}").replace("_", " ")


@dataclass(frozen=True)
class RecordedSeries:
    """A series of one episode; nan in rows that have no value."""

    series: Series
    values: Float64[np.ndarray, " row"]


def row_at(axis: Axis, step: int, prediction_step: Sequence[int] | np.ndarray) -> int:
    """Return the row that is in force before a control step; -1 where there is none yet."""
    if axis == "prediction":
        return int(np.searchsorted(prediction_step, step, side="right")) - 1
    return step


def series_to_json(recorded: Mapping[str, RecordedSeries]) -> str:
    """Return what a file says of its series besides their values, by name."""
    described = {name: asdict(each.series) for name, each in recorded.items()}
    kept = ("unit", "axis", "meaning", "is_reproducible")
    return json.dumps(
        {name: {key: series[key] for key in kept} for name, series in described.items()}
    )


def series_from_json(text: str) -> dict[str, Series]:
    """Return the series that `series_to_json` described, by name."""
    return {name: Series(name=name, **described) for name, described in json.loads(text).items()}
