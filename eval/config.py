"""What the commands are told: pure data, whose docstrings are the commands' help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# Evaluation counts from 0; nobody evaluates a million episodes.
FIRST_DEMO_EPISODE = 1_000_000


@dataclass(frozen=True)
class DemoConfig:
    """What the demonstrations show besides the plain expert.

    Attributes:
        output: folder of the new dataset.
        env: environment to record in.
        episodes: successes to record.
        first_episode: index of the first; kept far from evaluation's.
        near_object: fraction of episodes that begin with the gripper somewhere above the block.
        noisy: fraction of episodes whose executed targets are perturbed while the recorded ones stay
            clean (DART, Laskey et al. 2017): the policy sees how to come back.
        noise_deg: standard deviation of that Ornstein-Uhlenbeck noise, a joint.
        videos: store mp4 (lossy) in place of lossless images.
    """

    output: Path
    env: str = "so101/pick_place"
    episodes: int = 250
    first_episode: int = FIRST_DEMO_EPISODE
    near_object: float = 0.3
    noisy: float = 0.8
    noise_deg: float = 2.0
    videos: bool = False


@dataclass(frozen=True)
class EvalConfig:
    """Roll a policy out and say how often it succeeds, and where it fails when it does not.

    Examples:
      ./run eval --policy act --episodes 30
      ./run eval --policy act --checkpoint act-early --video failures
      ./run eval --policy act --checkpoint path/or/hub-id --env so101/pick_place_brick
      ./run eval --resume runs/20260101T120000Z-act-so101-pick_place

    Episode k begins alike on every machine: its initial state depends on (environment, task, k) alone.
    Exit codes: 0 done, 2 refused or bad input, 3 finished with crashed episodes, 130 interrupted.

    Attributes:
        policy: act, or without a checkpoint: zero and random (floors), scripted (the expert, a ceiling).
        checkpoint: a local folder, a hub id, or one that is shipped (act, act-early). Default: the shipped one.
        env: so101/pick_place, so101/pick_place_range (joints in -100..100), so101/pick_place_brick;
            <env>@scene.xml takes a MuJoCo model of your own.
        episodes: how many, from --first-episode on.
        first_episode: index of the first.
        run_dir: where the run folder is made.
        resume: finish an interrupted run; what its numbers depend on is taken from it.
        video: which episodes to film after the last has ended (mp4 in the run folder).
        n_action_steps: actions of a chunk to execute before the next prediction. Default: the checkpoint's.
        device: cpu, cuda, ... or auto: the GPU where there is one.
        horizon: control steps after which an episode is over. Default: the environment's.
        quiet: no progress bar and no table, one line.
    """

    policy: str = "act"
    checkpoint: str | None = None
    env: str = "so101/pick_place"
    episodes: int = 30
    first_episode: int = 0
    run_dir: Path = Path("runs")
    resume: Path | None = None
    video: Literal["none", "failures", "all"] = "none"
    n_action_steps: int | None = None
    device: str = "auto"
    horizon: int | None = None
    quiet: bool = False
