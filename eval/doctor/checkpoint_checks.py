"""Checks of the checkpoint by itself: its statistics, its weights, where it comes from."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath

import numpy as np

from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Finding, Level
from policies.lerobot_types import LEROBOT_TYPES
from policies.normalisation import FeatureStats, find_out_of_range_inputs
from policies.policy import NetworkPolicy

# Pixels in 0..1 of any real recording vary by more than this.
_LEAST_IMAGE_STD = 0.02
# A number that hardly varied in training is blown up by the division.
_LEAST_STD_SHARE = 1e-4


def check_statistics(context: CheckContext) -> Iterator[Finding]:
    """Is every feature normalised, by numbers that can be true?"""
    normalisation = context.normalisation
    assert normalisation is not None
    features = [*normalisation.inputs.values(), *filter(None, [normalisation.action])]
    for stats in features:
        yield from _check_mode(stats, normalisation.declared, context.setup.policy.spec.type)
        if stats.mode != "IDENTITY":
            yield from _check_feature(stats)
    yield from _check_action_pair(normalisation.trained_action, normalisation.action)
    if not features:
        yield Finding("statistics", Level.UNKNOWN, "in a step of the type's own, not looked into")
    else:
        modes = ", ".join(f"{s.key.removeprefix('observation.')}: {s.mode}" for s in features)
        yield Finding("statistics", Level.OK, f"{len(features)} features looked at", modes)


def _check_mode(
    stats: FeatureStats, declared: Mapping[str, str], policy_type: str
) -> Iterator[Finding]:
    """Compare how the processors normalise a feature with how config.json says that the training did."""
    meant = declared.get(stats.kind, "IDENTITY")
    evidence = f"processor {stats.mode}, config.json {meant}"
    if stats.mode == "IDENTITY" and meant != "IDENTITY":
        hint = "Save the processors again from the training that config.json is of."
        yield Finding(
            "statistics", Level.ERROR, f"{stats.key} is not normalised at all", evidence, hint
        )
    elif stats.kind in declared and stats.mode != meant:
        # The processors are what runs: a checkpoint may be right though its config.json is not.
        hint = "Only one of the two is of the training: compare with its normalization_mapping."
        finding = f"{stats.key} is normalised in another way than config.json says"
        yield Finding("statistics", Level.WARNING, finding, evidence, hint)
    elif (
        stats.mode == "IDENTITY"
        and stats.kind != "VISUAL"
        and not LEROBOT_TYPES[policy_type].takes_raw_numbers
    ):
        hint = "Right only if it was trained on raw numbers."
        yield Finding(
            "statistics", Level.WARNING, f"{stats.key} is not normalised at all", evidence, hint
        )


def _check_feature(stats: FeatureStats) -> Iterator[Finding]:
    std = stats.values.get("std")
    if stats.kind == "VISUAL":
        mean = stats.values.get("mean")
        if mean is not None and mean.max() > 1.5:
            hint = "Compute them on pixels in 0..1."
            yield Finding(
                "statistics",
                Level.ERROR,
                f"{stats.key}: statistics of 0-255 pixels",
                f"mean {mean.max():.0f}",
                hint,
            )
        if std is not None and std.min() < _LEAST_IMAGE_STD:
            yield Finding(
                "statistics",
                Level.ERROR,
                f"{stats.key}: the standard deviation is far too small",
                f"std {std.min():.4f} of pixels in 0..1: they become up to {0.5 / std.min():.0f}",
                "Compute the dataset's statistics again, and save the processors with them.",
            )
    elif std is not None and stats.span is not None:
        scale = np.maximum(np.abs(stats.span[0]), np.abs(stats.span[1])).max()
        flat = np.flatnonzero(std <= _LEAST_STD_SHARE * scale)
        if len(flat):
            hint = "That number never varied in training: any other value is blown up. Leave it out, or record it anew."
            if stats.kind == "ACTION":
                hint = "That action never varied in training: the policy cannot move it. Record it anew if it has to."
            yield Finding(
                "statistics",
                Level.WARNING,
                f"{stats.key}: std near zero",
                f"dimensions {flat.tolist()}",
                hint,
            )


def _check_action_pair(
    trained: FeatureStats | None, undone: FeatureStats | None
) -> Iterator[Finding]:
    """Training normalised the action; is exactly that undone?"""
    if trained is None or undone is None:
        return
    hint = "Save pre- and postprocessor of one training, with the same statistics."
    if trained.mode != undone.mode:
        finding = (
            "actions are left normalised"
            if undone.mode == "IDENTITY"
            else "another mode than in training"
        )
        evidence = f"training {trained.mode}, postprocessor {undone.mode}"
        yield Finding("postprocessor", Level.ERROR, finding, evidence, hint)
        return
    for name in (
        trained.values.keys() & undone.values.keys() & {"mean", "std", "min", "max", "q01", "q99"}
    ):
        if not np.allclose(trained.values[name], undone.values[name], rtol=1e-3, atol=1e-6):
            evidence = f"{name}: {_numbers(trained.values[name])} in training, {_numbers(undone.values[name])} here"
            yield Finding(
                "postprocessor",
                Level.ERROR,
                "actions are un-normalised by other statistics",
                evidence,
                hint,
            )
            return


def check_normalised_observation(context: CheckContext) -> Iterator[Finding]:
    """A real frame, as the network gets it."""
    policy = context.setup.policy
    assert isinstance(policy, NetworkPolicy) and context.normalisation is not None
    inputs = policy.network_inputs(context.first_memory.present)
    strange = find_out_of_range_inputs(context.normalisation, inputs)
    ranges = []
    for key, stats in context.normalisation.inputs.items():
        if key not in inputs or (stats.mode == "IDENTITY" and stats.kind == "VISUAL"):
            continue
        values = inputs[key].reshape(-1) if stats.kind == "VISUAL" else inputs[key][0]
        low, high = values.min(), values.max()
        ranges.append(f"{key.removeprefix('observation.')} {low:.1f} to {high:.1f}")
        if key in strange:
            where = (
                ""
                if stats.kind == "VISUAL"
                else f", worst {context.env.state_names[int(np.abs(values).argmax()) % len(context.env.state_names)]!r}"
            )
            yield Finding(
                "normalised observation",
                Level.ERROR,
                f"{key} of a real frame is far outside what it was trained on",
                f"normalised {low:.0f} to {high:.0f}{where}",
                "Statistics, units or the environment are not those of the training.",
            )
    yield Finding(
        "normalised observation", Level.OK, "a real frame was preprocessed", "; ".join(ranges)
    )


def check_weights(context: CheckContext) -> Iterator[Finding]:
    policy = context.setup.policy
    assert isinstance(policy, NetworkPolicy)
    audit = policy.audit()
    evidence = (
        f"{audit.n_parameters / 1e6:.1f} M parameters; "
        f"{audit.n_untouched_norms} of {audit.n_norms} normalisation layers as at their creation"
    )
    damaged = "The training diverged, or the file is damaged."
    if audit.non_finite:
        yield Finding(
            "weights", Level.ERROR, "NaN or infinite", ", ".join(audit.non_finite[:3]), damaged
        )
    elif audit.negative_variances:
        named = ", ".join(audit.negative_variances[:3])
        yield Finding("weights", Level.ERROR, "negative variances of a BatchNorm", named, damaged)
    elif audit.looks_random:
        hint = "They were never trained, or saved before loading. Check where the file comes from."
        yield Finding("weights", Level.ERROR, "they look random", evidence, hint)
    else:
        yield Finding(
            "weights", Level.OK, "every tensor was in the file, and they look trained", evidence
        )


def check_plan_is_finite(context: CheckContext) -> Iterator[Finding]:
    """Refuse a plan that is no number; where it is one, the other checks say more."""
    finite = np.isfinite(context.first_plan)
    if not finite.all():
        names = [
            name
            for name, good in zip(context.action.names, finite.all(axis=0), strict=True)
            if not good
        ]
        evidence = f"{(~finite).mean():.0%} of the first plan: {', '.join(names)}"
        hint = "Look at the weights and the statistics: the network, or a division by them, gives no number."
        yield Finding("planned actions", Level.ERROR, "the plan is NaN or infinite", evidence, hint)


def check_origin(context: CheckContext) -> Iterator[Finding]:
    name = context.setup.policy.spec.checkpoint
    # "pi0_base", "pi0fast-base", "smolvla_base"; not "database" and not "base_camera".
    if re.search(r"(^|[_-])base$", PurePath(name).name.lower()):
        yield Finding(
            "origin",
            Level.WARNING,
            "a base checkpoint: it was not fine-tuned for this robot and task",
            name,
            "Fine-tune it first; its success rate here says nothing of the method.",
        )
    else:
        yield Finding("origin", Level.OK, "not a base checkpoint by its name", name)


def _numbers(values: np.ndarray) -> str:
    return "[" + ", ".join(f"{v:.3g}" for v in values[:8]) + "]"
