"""Series: further numbers that are recorded with an episode, one in each row.

A series is computed in one place and declared in another (`eval.declared_series`). The recorder,
the run folder, the page, the films and the report carry it without knowing its name.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64

from sim.env import Env, StepResult

type Axis = Literal["moment", "step", "prediction"]


@dataclass(frozen=True)
class SoFar:
    """The episode so far, from which series are computed. The last entries are the newest.

    Attributes:
        env: the environment in its present state.
        results: one for each control step, like `actions`.
        plans: executed plans, `(horizon, action_dim)` each; one for each prediction, like
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
        name: name of the array, with the unit as its suffix.
        unit: unit of the numbers; "" if they have none.
        axis: what a row stands for. "moment": T + 1 rows, the world before each step and at the
            end; "step": T; "prediction": P.
        meaning: description in one sentence.
        is_reproducible: whether it is the same on every run of the same configuration.
        compute: returns the number of a new row. None if it comes with the policy's chunk
            (`ActionChunk.signals`).
    """

    name: str
    unit: str
    axis: Axis
    meaning: str
    is_reproducible: bool = True
    compute: Callable[[SoFar], float] | None = field(
        default=None,
        compare=False,
        repr=False,
    )

    @property
    def title(self) -> str:
        """Return the name in words, without its unit."""
        return self.name.removesuffix(f"_{self.unit}").replace("_", " ")


@dataclass(frozen=True)
class RecordedSeries:
    """A series of one episode, with nan in rows that have no value."""

    series: Series
    values: Float64[np.ndarray, " row"]


def row_at(
    axis: Axis,
    step: int,
    prediction_step: Sequence[int] | np.ndarray,
) -> int:
    """Return the row that is in force before a control step; -1 if there is none yet."""
    if axis != "prediction":
        return step
    n_predictions = np.searchsorted(prediction_step, step, side="right")
    return int(n_predictions) - 1


def series_to_json(recorded: Mapping[str, RecordedSeries]) -> str:
    """Return the description of series, without their values, by name."""
    columns = ("unit", "axis", "meaning", "is_reproducible")
    described = {}
    for name, each in recorded.items():
        described[name] = {column: getattr(each.series, column) for column in columns}
    return json.dumps(described)


def series_from_json(text: str) -> dict[str, Series]:
    """Return the series that `series_to_json` described, by name."""
    described = json.loads(text)
    return {name: Series(name=name, **content) for name, content in described.items()}
