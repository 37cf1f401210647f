"""Checks of the checkpoint alone: its statistics, its weights, its origin."""

import re
from collections.abc import Mapping
from pathlib import PurePath

import numpy as np

from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Findings, fail, fine, unknown, warn
from policies.lerobot_types import LEROBOT_TYPES
from policies.normalisation import FeatureStats, find_out_of_range_inputs
from policies.policy import NetworkPolicy

# Pixels in 0..1 of any real recording vary by more than this.
_LEAST_IMAGE_STD = 0.02
# A value that hardly varied in training is amplified by the division.
_LEAST_STD_SHARE = 1e-4
# Means of pixels in 0..1 are below this.
_MOST_IMAGE_MEAN = 1.5
_COMPARED_STATISTICS = {"mean", "std", "min", "max", "q01", "q99"}


def check_statistics(context: CheckContext) -> Findings:
    """Check that every feature is normalised as declared, by plausible statistics."""
    statistics = context.statistics
    features = list(statistics.inputs.values())
    if statistics.action is not None:
        features.append(statistics.action)
    for stats in features:
        yield from _check_mode(stats, statistics.declared, context.policy.type)
        if stats.mode == "IDENTITY":
            continue
        if stats.kind == "VISUAL":
            yield from _check_image_statistics(stats)
        else:
            yield from _check_constant_dimensions(stats)
    yield from _check_action_pair(statistics.trained_action, statistics.action)
    if not features:
        yield unknown(
            "statistics",
            "the policy type normalises in a step of its own, which was not checked",
        )
    else:
        modes = [f"{stats.key.removeprefix('observation.')}: {stats.mode}" for stats in features]
        yield fine(
            "statistics",
            f"{len(features)} features were checked",
            ", ".join(modes),
        )


def _check_mode(
    stats: FeatureStats,
    declared: Mapping[str, str],
    policy_type: str,
) -> Findings:
    """Compare how the processors normalise a feature with what config.json declares."""
    meant = declared.get(stats.kind, "IDENTITY")
    is_raw = stats.mode == "IDENTITY"
    not_normalised = f"{stats.key} is not normalised at all"
    evidence = f"processor {stats.mode}, config.json {meant}"
    if is_raw and meant != "IDENTITY":
        yield fail(
            "statistics",
            not_normalised,
            evidence,
            "Save the processors again from the training that config.json describes.",
        )
    elif stats.kind in declared and stats.mode != meant:
        # The processors are what runs. Such a checkpoint may be right although its config.json is
        # not.
        yield warn(
            "statistics",
            f"{stats.key} is normalised in another way than config.json says",
            evidence,
            "Only one of the two is from the training: compare with its normalization_mapping.",
        )
    elif is_raw and stats.kind != "VISUAL" and not LEROBOT_TYPES[policy_type].takes_raw_numbers:
        yield warn(
            "statistics",
            not_normalised,
            evidence,
            "This is right only if the policy was trained on raw numbers.",
        )


def _check_image_statistics(stats: FeatureStats) -> Findings:
    mean = stats.values.get("mean")
    std = stats.values.get("std")
    if mean is not None and mean.max() > _MOST_IMAGE_MEAN:
        yield fail(
            "statistics",
            f"{stats.key}: statistics of 0-255 pixels",
            f"mean {mean.max():.0f}",
            "Compute them on pixels in 0..1.",
        )
    if std is not None and std.min() < _LEAST_IMAGE_STD:
        largest = 0.5 / std.min()
        yield fail(
            "statistics",
            f"{stats.key}: the standard deviation is far too small",
            f"std {std.min():.4f} of pixels in 0..1: they become up to {largest:.0f}",
            "Compute the dataset's statistics again, and save the processors with them.",
        )


def _check_constant_dimensions(stats: FeatureStats) -> Findings:
    std = stats.values.get("std")
    if std is None or stats.span is None:
        return
    low, high = stats.span
    scale = np.maximum(np.abs(low), np.abs(high)).max()
    constant = np.flatnonzero(std <= _LEAST_STD_SHARE * scale)
    if not len(constant):
        return
    hint = (
        "That number never varied in training, so any other value is amplified. "
        "Leave it out, or record it anew."
    )
    if stats.kind == "ACTION":
        hint = (
            "That action never varied in training, so the policy cannot move it. "
            "Record it anew if it has to."
        )
    yield warn(
        "statistics",
        f"{stats.key}: std near zero",
        f"dimensions {constant.tolist()}",
        hint,
    )


def _check_action_pair(trained: FeatureStats | None, undone: FeatureStats | None) -> Findings:
    """Check that the postprocessor undoes exactly the normalisation of the training."""
    if trained is None or undone is None:
        return
    hint = "Save pre- and postprocessor of one training, with the same statistics."
    if trained.mode != undone.mode:
        is_raw = undone.mode == "IDENTITY"
        yield fail(
            "postprocessor",
            "actions are left normalised" if is_raw else "another mode than in training",
            f"training {trained.mode}, postprocessor {undone.mode}",
            hint,
        )
        return
    for name in trained.values.keys() & undone.values.keys() & _COMPARED_STATISTICS:
        was = trained.values[name]
        now = undone.values[name]
        if not np.allclose(was, now, rtol=1e-3, atol=1e-6):
            yield fail(
                "postprocessor",
                "actions are un-normalised by other statistics",
                f"{name}: {_numbers(was)} in training, {_numbers(now)} here",
                hint,
            )
            return


def check_normalised_observation(context: CheckContext) -> Findings:
    """Check the range of a real observation as the network gets it."""
    check = "normalised observation"
    policy = context.setup.policy
    assert isinstance(policy, NetworkPolicy)
    inputs = policy.network_inputs(context.first_memory.present)
    outside = find_out_of_range_inputs(context.statistics, inputs)
    ranges = []
    for key, stats in context.statistics.inputs.items():
        is_image = stats.kind == "VISUAL"
        is_raw_image = is_image and stats.mode == "IDENTITY"
        if key not in inputs or is_raw_image:
            continue
        values = inputs[key].reshape(-1) if is_image else inputs[key][0]
        low = values.min()
        high = values.max()
        ranges.append(f"{key.removeprefix('observation.')} {low:.1f} to {high:.1f}")
        if key in outside:
            evidence = f"normalised {low:.0f} to {high:.0f}"
            if not is_image:
                names = context.env.state_names
                worst = int(np.abs(values).argmax()) % len(names)
                evidence += f", worst {names[worst]!r}"
            yield fail(
                check,
                f"{key} of a real frame is far outside what it was trained on",
                evidence,
                "Statistics, units or the environment are not those of the training.",
            )
    yield fine(check, "a real frame was preprocessed", "; ".join(ranges))


def check_weights(context: CheckContext) -> Findings:
    """Check that the weights are finite and look trained."""
    policy = context.setup.policy
    assert isinstance(policy, NetworkPolicy)
    audit = policy.audit()
    damaged = "The training diverged, or the file is damaged."
    evidence = (
        f"{audit.n_parameters / 1e6:.1f} M parameters; "
        f"{audit.n_untouched_norms} of {audit.n_norms} normalisation layers as at their creation"
    )
    if audit.non_finite:
        yield fail("weights", "NaN or infinite", ", ".join(audit.non_finite[:3]), damaged)
    elif audit.negative_variances:
        yield fail(
            "weights",
            "negative variances of a BatchNorm",
            ", ".join(audit.negative_variances[:3]),
            damaged,
        )
    elif audit.looks_random:
        yield fail(
            "weights",
            "they look random",
            evidence,
            (
                "They were never trained, or were saved before loading. "
                "Check where the file comes from."
            ),
        )
    else:
        yield fine("weights", "every tensor was in the file, and they look trained", evidence)


def check_plan_is_finite(context: CheckContext) -> Findings:
    """Check that the first plan has no NaN; if so, other checks report on it."""
    finite = np.isfinite(context.first_plan)
    if finite.all():
        return
    names = ", ".join(np.array(context.action.names)[~finite.all(axis=0)])
    yield fail(
        "planned actions",
        "the plan is NaN or infinite",
        f"{(~finite).mean():.0%} of the first plan: {names}",
        (
            "Look at the weights and the statistics: the network, or a division by a statistic, "
            "does not give a number."
        ),
    )


def check_origin(context: CheckContext) -> Findings:
    """Warn of base checkpoints, which were not fine-tuned."""
    name = context.policy.checkpoint
    # This matches "pi0_base", "pi0fast-base" and "smolvla_base", but neither "database" nor
    # "base_camera".
    if re.search(r"(^|[_-])base$", PurePath(name).name.lower()):
        yield warn(
            "origin",
            "a base checkpoint: it was not fine-tuned for this robot and task",
            name,
            "Fine-tune it first; its success rate here says nothing about the method.",
        )
    else:
        yield fine("origin", "not a base checkpoint by its name", name)


def _numbers(values: np.ndarray) -> str:
    return "[" + ", ".join(f"{value:.3g}" for value in values[:8]) + "]"
