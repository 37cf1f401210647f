"""Read the statistics by which a checkpoint normalises, from its files and without lerobot."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors.numpy import load_file

from policies.checkpoint_reading import read_processor_steps, settings_of
from policies.lerobot_types import camera_of_feature
from policies.relative_actions import RelativeActions, load_relative_actions
from sim.errors import WhiskerError

# lerobot's normalisation mode → the two statistics that it needs; IDENTITY needs none.
MODE_STATISTICS: Mapping[str, tuple[str, str]] = {
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
}
# Image statistics that are conventions and not measurements: name → (mean, std) of pixels in 0..1.
# By default, `lerobot-train` replaces the dataset's by ImageNet's (lerobot/configs/default.py,
# `use_imagenet_stats`).
type _Rgb = tuple[float, float, float]
_IMAGE_CONVENTIONS: Mapping[str, tuple[_Rgb, _Rgb]] = {
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mean 0.5 and std 0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "mean 0 and std 1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
# A convention rounded to bfloat16 is within this tolerance. Six measured numbers are not all.
_CONVENTION_TOLERANCE = 2e-3
# A normalised input beyond these limits is unlike anything in the training.
_MAX_STANDARD_DEVIATIONS = 20.0
_MAX_HALF_SPANS = 8.0
_HINT = "Save the processors with the statistics of the training's dataset."


type _Arrays = Mapping[str, np.ndarray]
type _Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class FeatureStats:
    """Statistics of one input or output of a checkpoint.

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
    def span(self) -> _Pair | None:
        """The (lowest, highest) value in training, or the mean ± 3 standard deviations."""
        values = self.values
        for low, high in (("min", "max"), ("q01", "q99")):
            if low in values and high in values:
                return values[low], values[high]
        if not self._has_mean_and_std:
            return None
        margin = 3 * values["std"]
        return values["mean"] - margin, values["mean"] + margin

    @property
    def typical(self) -> _Pair | None:
        """The (middle, width), where the width is one standard deviation or a sixth of the span."""
        if self._has_mean_and_std:
            return self.values["mean"], self.values["std"]
        if self.span is None:
            return None
        low, high = self.span
        return (low + high) / 2, (high - low) / 6

    @property
    def affine(self) -> _Pair | None:
        """The (middle, width) of the unnormalised value, middle + x · width, of a normalised x.

        None if the feature is not normalised.
        """
        if self.mode not in MODE_STATISTICS or not self.values:
            return None
        first, second = (self.values[name] for name in MODE_STATISTICS[self.mode])
        if self.mode == "MEAN_STD":
            return first, second
        return (first + second) / 2, (second - first) / 2

    @property
    def convention(self) -> str:
        """The name of the convention that image statistics follow; "" for measured statistics.

        It is "" for features that are not images, too.
        """
        if self.kind != "VISUAL" or not self._has_mean_and_std:
            return ""
        for name, (mean, std) in _IMAGE_CONVENTIONS.items():
            mean_error = np.abs(self.values["mean"] - mean).max()
            std_error = np.abs(self.values["std"] - std).max()
            if max(mean_error, std_error) < _CONVENTION_TOLERANCE:
                return name
        return ""

    @property
    def _has_mean_and_std(self) -> bool:
        return {"mean", "std"} <= self.values.keys()


@dataclass(frozen=True)
class Normalisation:
    """Describes how the processors normalise the inputs and unnormalise the action.

    Attributes:
        inputs: lerobot's key → statistics.
        trained_action: statistics by which the preprocessor normalised the action in training;
            None if it has none.
        action: statistics by which the postprocessor unnormalises the action; None if there is no
            such step.
        declared: feature type → mode in config.json.
        relative: the steps that turn targets into differences from the state, and back.
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
        """The statistics of each camera."""
        return {
            camera_of_feature(key): stats
            for key, stats in self.inputs.items()
            if stats.kind == "VISUAL"
        }

    def of_images(self) -> "Normalisation":
        """Return the part that concerns images alone."""
        images = {key: stats for key, stats in self.inputs.items() if stats.kind == "VISUAL"}
        return replace(self, inputs=images, trained_action=None, action=None)


def load_normalisation(folder: Path) -> Normalisation:
    """Read the statistics of a checkpoint.

    The result is empty for types that normalise in a step of their own (groot).

    Raises:
        WhiskerError: statistics are missing, not finite or contradictory, or a relative step has no
            counterpart.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    widths = _read_widths(config)
    before = _load_features(folder, "preprocessor", "normalizer_processor", widths)
    after = _load_features(folder, "postprocessor", "unnormalizer_processor", widths)
    inputs = {key: stats for key, stats in before.items() if stats.kind != "ACTION"}
    return Normalisation(
        inputs=inputs,
        trained_action=before.get("action"),
        action=after.get("action"),
        declared=config.get("normalization_mapping", {}),
        relative=load_relative_actions(folder),
    )


def find_out_of_range_inputs(
    normalisation: Normalisation,
    inputs: Mapping[str, Float[np.ndarray, "..."]],
) -> dict[str, Float[np.ndarray, "..."]]:
    """Return the inputs of a real observation that lie far outside the training's range.

    Args:
        inputs: normalised, from `NetworkPolicy.network_inputs`.
    """
    out_of_range = {}
    for key, stats in normalisation.inputs.items():
        if key not in inputs or stats.mode == "IDENTITY":
            continue
        limit = _MAX_STANDARD_DEVIATIONS if stats.mode == "MEAN_STD" else _MAX_HALF_SPANS
        is_in_range = np.abs(inputs[key]).max() <= limit  # False for NaN
        if not is_in_range:
            out_of_range[key] = inputs[key]
    return out_of_range


def _read_widths(config: Mapping[str, Any]) -> dict[str, int]:
    """Return key → width, for the features whose statistics EVO1 pads to that of its network."""
    if config["type"] != "evo1":
        return {}
    features = (config.get("input_features") or {}) | (config.get("output_features") or {})
    widths = {}
    for key, feature in features.items():
        if feature["type"] != "VISUAL" and feature.get("shape"):
            widths[key] = math.prod(feature["shape"])
    return widths


def _load_features(
    folder: Path,
    part: str,
    step_name: str,
    widths: Mapping[str, int],
) -> dict[str, FeatureStats]:
    """Return key → statistics, for every feature of a processor's normaliser step.

    Args:
        widths: key → numbers that count, for features whose statistics are padded.
    """
    steps = read_processor_steps(folder, part)
    named = (step for step in steps if step["registry_name"] == step_name)
    step = next(named, {})
    file = folder / step.get("state_file", "")
    tensors = _load_tensors(file) if "state_file" in step else {}
    settings = settings_of(step)
    features = {}
    for key, feature in settings.get("features", {}).items():
        kind = feature["type"]
        mode = settings.get("norm_map", {}).get(kind, "IDENTITY")
        values = _statistics_of(key, tensors)
        values = {name: value[: widths.get(key)] for name, value in values.items()}
        if values and mode in MODE_STATISTICS:
            _check_values(f"checkpoint file {str(file)!r}, {key!r}", mode, values)
        # Statistics that the mode does not use may be infinite; they are left out.
        finite = {name: value for name, value in values.items() if np.isfinite(value).all()}
        features[key] = FeatureStats(key, kind, mode, finite)
    return features


def _statistics_of(key: str, tensors: _Arrays) -> _Arrays:
    """Return statistic → flat float64 array, from tensors named `<key>.<statistic>`."""
    prefix = f"{key}."
    statistics = {}
    for name, value in tensors.items():
        if name.startswith(prefix):
            statistics[name.removeprefix(prefix)] = value.astype(np.float64).ravel()
    return statistics


def _load_tensors(path: Path) -> _Arrays:
    try:
        return load_file(path)
    except TypeError:  # numpy has no bfloat16
        from safetensors.torch import load_file as load_torch_file  # torch takes seconds to import

        tensors = load_torch_file(path)
        return {name: tensor.double().numpy() for name, tensor in tensors.items()}


def _check_values(subject: str, mode: str, values: _Arrays) -> None:
    """Raise unless both statistics of the mode exist, are finite, and describe varying numbers."""
    first, second = MODE_STATISTICS[mode]
    if not {first, second} <= values.keys():
        expected = f"{first} and {second}, which {mode} needs"
        raise WhiskerError(subject, expected=expected, got=", ".join(sorted(values)), hint=_HINT)
    for name in (first, second):
        _check_finite(subject, f"statistics that are finite numbers ({mode})", name, values[name])
    low = values[first]
    high = values[second]
    both = f"{first} {_format(low)}, {second} {_format(high)}"
    if mode == "MEAN_STD":
        if (high < 0).any():
            raise WhiskerError(subject, expected="no negative std", got=_format(high), hint=_HINT)
        varied = high > 0
    else:
        if (low > high).any():
            expected = f"no {first} above its {second}"
            raise WhiskerError(subject, expected=expected, got=both, hint=_HINT)
        varied = low < high
    if not varied.any():
        expected = "statistics of numbers that varied"
        raise WhiskerError(subject, expected=expected, got=both, hint=_HINT)


def _check_finite(subject: str, expected: str, name: str, values: np.ndarray) -> None:
    if np.isfinite(values).all():
        return
    hint = _HINT
    if np.isinf(values).all():
        hint += (
            " Infinite numbers are lerobot's placeholders for statistics that it was never given."
        )
    raise WhiskerError(subject, expected=expected, got=f"{name} {_format(values)}", hint=hint)


def _format(values: np.ndarray) -> str:
    shown = ", ".join(f"{value:.3g}" for value in values[:8])
    return f"[{shown}, ...]" if len(values) > 8 else f"[{shown}]"
