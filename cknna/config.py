"""The settings of `cknna`: pure data, whose docstrings are the command's help."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

from policies.config import PolicyConfig


@dataclass(frozen=True)
class ScoreConfig:
    """Score how well a policy's embedding and the robot's state agree on neighbours (CKNNA).

    Examples:
      ./run cknna score runs/<run>                      # of `eval --collect-features`
      ./run cknna score runs/<run> --against privileged
      ./run cknna score bank_a bank_b --json scores.json --plot scores.png
      ./run cknna score --features-a a.pt --features-b b.pt --topk 5 10 20 --mutual-knn

    Frames of a rollout resemble the frames before and after them in any representation. So the
    score of two representations that have nothing to do with each other is far above 0; the null
    says how far, by permuting whole episodes. Read no score without it. The 95 % interval over
    episodes (jackknife) is conservative: in simulations it covers 97 to 100 %.

    Attributes:
        banks: run folders with features, or folders of `cknna extract`.
        against: state, the robot's proprioception; privileged, the position of the task's object in
            the world; or the name of any series that the run recorded at every step, e.g.
            ee_pos_world or goal_distance_m.
        features_a: in place of banks: .pt files with one tensor each, whose rows follow one
            another.
        features_b: the .pt file of the same moments in the other representation.
        episodes: a .pt file with the number of each row's episode, (n,) integers, beside features_a
            and features_b. Without it the null can permute rows alone, and there is no interval.
        topk: numbers of neighbours.
        variant: unbiased is platonic-rep's and mostly published; row-centred is as printed in Huh
            et al. 2024.
        mutual_knn: show the share of mutual neighbours too, with what it is by chance.
        cka: show linear CKA too, which counts all pairs.
        exclude_same_episode: neighbours are looked for in other episodes only.
        parts: also score each task, successes and failures, and the phases of the episodes: before,
            in and after the grasp, or thirds where that is not known; --no-parts scores the whole
            alone.
        null: episodes permutes whole episodes; rows permutes rows, which calls everything
            significant that is smooth.
        permutations: of the null.
        seed: of the permutations.
        across_policies: compare banks of two policies' own rollouts, though they are of different
            states.
        json: write the rows to this file.
        plot: draw them into this file (png).
    """

    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "most used": ("banks", "against", "topk", "parts", "mutual_knn", "json", "plot"),
        "in place of banks": ("features_a", "features_b", "episodes"),
        "how it is scored": (
            "variant",
            "cka",
            "exclude_same_episode",
            "null",
            "permutations",
            "seed",
            "across_policies",
        ),
    }
    banks: Positional[tuple[Path, ...]] = ()
    against: str = "state"
    features_a: tuple[Path, ...] = ()
    features_b: Path | None = None
    episodes: Path | None = None
    topk: tuple[int, ...] = (5, 10, 20)
    variant: Literal["unbiased", "row-centred", "biased", "distance-agnostic"] = "unbiased"
    mutual_knn: bool = False
    cka: bool = False
    exclude_same_episode: bool = False
    parts: bool = True
    null: Literal["episodes", "rows"] = "episodes"
    permutations: int = 999
    seed: int = 0
    across_policies: bool = False
    json: Path | None = None
    plot: Path | None = None


@dataclass(frozen=True)
class HookConfig:
    """Names modules of a network whose output is collected, besides its condition embedding.

    Attributes:
        modules: their paths (model.encoder.layers.0), one or several.
        pool: how the tokens that such a module puts out become one vector. Default: masked-mean if
            the policy masks padding, else mean.
    """

    modules: Annotated[tuple[str, ...], arg(name="hook")] = ()
    pool: Literal["mean", "masked-mean", "first", "last"] | None = None


@dataclass(frozen=True)
class AuditConfig:
    """Show what is hooked in a policy: modules, shapes, calls in a prediction, and masks.

    Attributes:
        policy: policy.
        hook: modules of the network to listen to.
    """

    policy: PolicyConfig = PolicyConfig()
    hook: HookConfig = HookConfig()


@dataclass(frozen=True)
class ExtractConfig:
    """Collect a policy's features on recorded observations, on which policies can be compared.

    Examples:
      ./run eval --policy act --episodes 30 --record-observations
      ./run cknna extract --policy act --on runs/<run> --output act_bank

    A forward pass ends as soon as the features are heard: nothing is denoised or decoded. An
    interrupted extraction goes on from where it stopped.

    Attributes:
        on: a run of `eval --record-observations`, a LeRobotDataset, or LIBERO demonstrations
            (HDF5).
        output: the bank's folder.
        every: take every n-th of the recorded decisions.
        batch_size: observations in a forward pass.
        camera_map: recorded=policy,recorded=policy: which recorded camera is which of the policy's.
        workers: processes that compute features, each with a policy of its own. auto: as many as
            there are cores and memory for, and 1 on a GPU.
        policy: policy.
        hook: modules of the network to listen to.
    """

    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "what to read and write": ("on", "output", "every", "batch_size", "camera_map", "workers")
    }
    on: Path | None = None
    output: Path | None = None
    every: int = 1
    batch_size: int = 8
    camera_map: str | None = None
    workers: int | Literal["auto"] = 1
    policy: PolicyConfig = PolicyConfig()
    hook: HookConfig = HookConfig()
