"""The statistics with which a checkpoint normalises, read from its files without lerobot."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors.numpy import load_file

from policies.relative_actions import RelativeActions, load_relative_actions
from sim.errors import WhiskerError

IMAGE_PREFIX = "observation.images."
# lerobot's normalisation mode → the two statistics that it needs; IDENTITY needs none.
MODE_STATISTICS: Mapping[str, tuple[str, str]] = {
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
}
# Image statistics that nobody measured, as (mean, std) of pixels in 0..1. `lerobot-train` writes
# ImageNet's over the data set's by default (lerobot/configs/default.py, `use_imagenet_stats`).
_IMAGE_CONVENTIONS: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mean 0.5 and std 0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "mean 0 and std 1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
# Six numbers of a measurement do not all come this close to a convention; its rounding to bfloat16
# does.
_CONVENTION_TOLERANCE = 2e-3
# Of a normalised input, in standard deviations, and in half spans: trained on nothing like it.
_ABSURD_STD, _ABSURD_SPAN = 20.0, 8.0


@dataclass(frozen=True)
class FeatureStats:
    """One input or output of a checkpoint.

    Attributes:
        kind: lerobot's feature type: STATE, VISUAL or ACTION.
        mode: lerobot's normalisation mode; IDENTITY does nothing.
        values: statistic → value, e.g. "mean" → `(dim,)`; images `(3,)`, of pixels in 0..1.
    """

    key: str
    kind: str
    mode: str
    values: Mapping[str, Float[np.ndarray, " dim"]]

    @property
    def span(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(lowest, highest) value seen in training, or three standard deviations to either side of the mean."""
        values = self.values
        for low, high in (("min", "max"), ("q01", "q99")):
            if low in values and high in values:
                return values[low], values[high]
        if "mean" in values and "std" in values:
            return values["mean"] - 3 * values["std"], values["mean"] + 3 * values["std"]
        return None

    @property
    def typical(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(middle, width), one standard deviation or what stands for it: a sixth of the span."""
        if "mean" in self.values and "std" in self.values:
            return self.values["mean"], self.values["std"]
        if self.span is None:
            return None
        low, high = self.span
        return (low + high) / 2, (high - low) / 6

    @property
    def affine(self) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, " dim"]] | None:
        """Return (middle, width): a normalised x stands for middle + x width; None if it is not normalised."""
        if self.mode not in MODE_STATISTICS or not self.values:
            return None
        first, second = (self.values[name] for name in MODE_STATISTICS[self.mode])
        return (
            (first, second)
            if self.mode == "MEAN_STD"
            else ((first + second) / 2, (second - first) / 2)
        )

    @property
    def convention(self) -> str:
        """Return the name of the convention that image statistics follow; "" if they are measurements, or no images."""
        if self.kind != "VISUAL" or "mean" not in self.values or "std" not in self.values:
            return ""
        for name, (mean, std) in _IMAGE_CONVENTIONS.items():
            off = [np.abs(self.values["mean"] - mean).max(), np.abs(self.values["std"] - std).max()]
            if max(off) < _CONVENTION_TOLERANCE:
                return name
        return ""


@dataclass(frozen=True)
class Normalisation:
    """Describes how the preprocessor scales the inputs, and how the postprocessor undoes that for the action.

    Attributes:
        inputs: by lerobot's key.
        trained_action: the action as the preprocessor normalised it in training; None if it does
            not say.
        action: as the postprocessor undoes it; None if there is no such step.
        declared: feature type → the mode that config.json says.
        relative: what is done to actions besides.
    """

    inputs: Mapping[str, FeatureStats]
    trained_action: FeatureStats | None
    action: FeatureStats | None
    declared: Mapping[str, str]
    relative: RelativeActions = field(default_factory=RelativeActions)

    @property
    def state(self) -> FeatureStats | None:
        return self.inputs.get("observation.state")

    @property
    def images(self) -> dict[str, FeatureStats]:
        """Camera → its statistics."""
        visual = {key: stats for key, stats in self.inputs.items() if stats.kind == "VISUAL"}
        return {
            key.removeprefix(IMAGE_PREFIX).removeprefix("observation."): stats
            for key, stats in visual.items()
        }


def load_normalisation(folder: Path) -> Normalisation:
    """Read the statistics of a checkpoint, and refuse those with which nothing can be normalised.

    Types that normalise in a step of their own (groot) come out empty.

    Raises:
        WhiskerError: statistics that are missing, not finite or contradict themselves, or an
            unpaired relative step.
    """
    before = _load_features(folder, "preprocessor", "normalizer_processor")
    after = _load_features(folder, "postprocessor", "unnormalizer_processor")
    inputs = {key: stats for key, stats in before.items() if stats.kind != "ACTION"}
    declared = json.loads((folder / "config.json").read_text(encoding="utf-8")).get(
        "normalization_mapping", {}
    )
    relative = load_relative_actions(folder)
    return Normalisation(inputs, before.get("action"), after.get("action"), declared, relative)


def find_strange_inputs(
    normalisation: Normalisation, inputs: Mapping[str, Float[np.ndarray, "..."]]
) -> dict[str, Float[np.ndarray, "..."]]:
    """Of a real observation's normalised inputs those that lie far outside what the checkpoint was trained on.

    Args:
        inputs: from `NetworkPolicy.network_inputs`.
    """
    strange = {}
    for key, stats in normalisation.inputs.items():
        limit = _ABSURD_STD if stats.mode == "MEAN_STD" else _ABSURD_SPAN
        if (
            key in inputs and stats.mode != "IDENTITY" and not np.abs(inputs[key]).max() <= limit
        ):  # or NaN
            strange[key] = inputs[key]
    return strange


def _load_features(folder: Path, part: str, step_name: str) -> dict[str, FeatureStats]:
    pipeline = json.loads((folder / f"policy_{part}.json").read_text(encoding="utf-8"))
    step: dict = next((s for s in pipeline["steps"] if s["registry_name"] == step_name), {})
    tensors = _load_tensors(folder / step["state_file"]) if "state_file" in step else {}
    config = step.get("config", {})
    features = {}
    for key, feature in config.get("features", {}).items():
        own = {
            name.removeprefix(f"{key}."): value
            for name, value in tensors.items()
            if name.startswith(f"{key}.")
        }
        values = {name: value.astype(np.float64).ravel() for name, value in own.items()}
        mode = config.get("norm_map", {}).get(feature["type"], "IDENTITY")
        if values and mode in MODE_STATISTICS:
            _check_values(
                f"checkpoint file {str(folder / step['state_file'])!r}, {key!r}", mode, values
            )
        # The mode does not use these; a mean or a span of them would be none.
        finite = {name: value for name, value in values.items() if np.isfinite(value).all()}
        features[key] = FeatureStats(key, feature["type"], mode, finite)
    return features


def _load_tensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except TypeError:  # numpy has no bfloat16
        from safetensors.torch import load_file as load_torch_file  # torch takes seconds to import

        return {name: tensor.double().numpy() for name, tensor in load_torch_file(path).items()}


def _check_values(subject: str, mode: str, values: Mapping[str, np.ndarray]) -> None:
    """Raise unless the two statistics of the mode are there, finite, and describe numbers that varied."""
    first, second = MODE_STATISTICS[mode]
    hint = "Save the processors with the statistics of the training's data set."
    if not {first, second} <= values.keys():
        expected = f"{first} and {second}, by which {mode} normalises"
        raise WhiskerError(subject, expected=expected, got=", ".join(sorted(values)), hint=hint)
    for name in (first, second):
        if not np.isfinite(values[name]).all():
            if np.isinf(values[name]).all():
                hint += " Infinite ones are lerobot's placeholders for statistics that it was never given."
            expected = f"statistics that are finite numbers ({mode})"
            raise WhiskerError(
                subject, expected=expected, got=f"{name} {_numbers(values[name])}", hint=hint
            )
    if mode == "MEAN_STD":
        if (values[second] < 0).any():
            raise WhiskerError(
                subject, expected="no negative std", got=_numbers(values[second]), hint=hint
            )
        varied = values[second] > 0
    else:
        if (values[first] > values[second]).any():
            got = f"{first} {_numbers(values[first])}, {second} {_numbers(values[second])}"
            raise WhiskerError(
                subject, expected=f"no {first} above its {second}", got=got, hint=hint
            )
        varied = values[first] < values[second]
    if not varied.any():
        got = f"{first} {_numbers(values[first])}, {second} {_numbers(values[second])}"
        raise WhiskerError(
            subject, expected="statistics of numbers that varied", got=got, hint=hint
        )


def _numbers(values: np.ndarray) -> str:
    shown = ", ".join(f"{value:.3g}" for value in values[:8])
    return f"[{shown}, ...]" if len(values) > 8 else f"[{shown}]"
