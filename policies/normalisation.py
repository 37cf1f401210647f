"""The statistics with which a checkpoint normalises, read from its files without lerobot."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors.numpy import load_file

IMAGE_PREFIX = "observation.images."
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


@dataclass(frozen=True)
class Normalisation:
    """What the preprocessor does to the inputs, and the postprocessor to the action.

    Attributes:
        inputs: by lerobot's key.
        trained_action: the action as the preprocessor normalised it in training; None if it does not say.
        action: as the postprocessor undoes it; None if there is no such step.
        declared: feature type → the mode that config.json says.
    """

    inputs: Mapping[str, FeatureStats]
    trained_action: FeatureStats | None
    action: FeatureStats | None
    declared: Mapping[str, str]

    @property
    def state(self) -> FeatureStats | None:
        return self.inputs.get("observation.state")

    @property
    def images(self) -> dict[str, FeatureStats]:
        """Camera → its statistics."""
        visual = {key: stats for key, stats in self.inputs.items() if stats.kind == "VISUAL"}
        return {key.removeprefix(IMAGE_PREFIX).removeprefix("observation."): stats for key, stats in visual.items()}


def load_normalisation(folder: Path) -> Normalisation:
    """Of a checkpoint whose files were checked. Types that normalise in a step of their own (groot) come out empty."""
    before = _load_features(folder, "preprocessor", "normalizer_processor")
    after = _load_features(folder, "postprocessor", "unnormalizer_processor")
    inputs = {key: stats for key, stats in before.items() if stats.kind != "ACTION"}
    declared = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("normalization_mapping", {})
    return Normalisation(inputs, before.get("action"), after.get("action"), declared)


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
        if key in inputs and stats.mode != "IDENTITY" and np.abs(inputs[key]).max() > limit:
            strange[key] = inputs[key]
    return strange


def _load_features(folder: Path, part: str, step_name: str) -> dict[str, FeatureStats]:
    pipeline = json.loads((folder / f"policy_{part}.json").read_text(encoding="utf-8"))
    step: dict = next((s for s in pipeline["steps"] if s["registry_name"] == step_name), {})
    tensors = load_file(folder / step["state_file"]) if "state_file" in step else {}
    config = step.get("config", {})
    features = {}
    for key, feature in config.get("features", {}).items():
        own = {name.removeprefix(f"{key}."): value for name, value in tensors.items() if name.startswith(f"{key}.")}
        values = {name: value.astype(np.float64).ravel() for name, value in own.items()}
        mode = config.get("norm_map", {}).get(feature["type"], "IDENTITY")
        features[key] = FeatureStats(key, feature["type"], mode, values)
    return features
