"""What the commands are told: pure data, whose docstrings are the commands' help."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from tyro.conf import Positional

from sim.spec import Control

# What `auto` means where nothing was trained anywhere else.
DEFAULT_ENV = "so101/pick_place"
AUTO_ENV = "auto"
# Evaluation counts from 0; nobody evaluates a million episodes.
FIRST_DEMO_EPISODE = 1_000_000

# Groups of flags in `--help`, which several commands share.
ADAPTER_FLAGS = (
    "camera_map",
    "image_size",
    "allow_missing_camera",
    "allow_padding",
    "policy_actions",
    "calibration",
    "gripper_range",
    "gripper_offset",
    "gripper_min",
    "wrong_instruction",
    "trust_remote_code",
)
SETTING_FLAGS = ("device", "control", "n_action_steps", "horizon")


@dataclass(frozen=True)
class DemoConfig:
    """Record the scripted expert's successes: a LeRobotDataset, or of a LIBERO task a file in LIBERO's own HDF5 layout.

    Examples:
      ./run eval-demos --output demos --episodes 250
      ./run eval-demos --output demos --env libero_object/0 --episodes 50

    Attributes:
        output: folder of the new dataset; for LIBERO the file, which gets the ending .hdf5 where it
            has another. Its tools expect <task's name>_demo.hdf5.
        env: environment to record in.
        episodes: successes to record. LIBERO has 50 init states a task.
        first_episode: index of the first. Default: far from evaluation's; in LIBERO 0, of its own
            init states. Several processes record in parallel if each has a folder and a range of
            its own: 1000000, 1001000, ...
        near_object: fraction of episodes that begin with the gripper somewhere above the block.
        noisy: fraction of episodes whose executed targets are perturbed while the recorded ones
            stay clean (DART, Laskey et al. 2017): the policy sees how to come back.
        noise_deg: standard deviation of that Ornstein-Uhlenbeck noise, a joint.
        videos: store mp4 (lossy) in place of lossless images. LIBERO's layout has images alone.
    """

    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "most used": ("output", "env", "episodes", "near_object", "noisy", "videos"),
        "rarely needed": ("first_episode", "noise_deg"),
    }
    output: Path
    env: str = DEFAULT_ENV
    episodes: int = 250
    first_episode: int = FIRST_DEMO_EPISODE
    near_object: float = 0.3
    noisy: float = 0.8
    noise_deg: float = 2.0
    videos: bool = False


@dataclass(frozen=True)
class SubjectConfig:
    """Says what is evaluated, and where.

    Attributes:
        policy: act, smolvla, pi0, pi05, pi0_fast, xvla, groot, diffusion, vqbet, tdmpc or sac; or
            without a checkpoint: zero and random (floors), scripted (the expert, a ceiling), replay
            (with --demos). Or one of your own: my_package.my_module:factory, or an entry point of
            the group whisker.policies. Default: the checkpoint's own type, or act.
        checkpoint: a local folder, a hub id, or one that is shipped (act, act-early, smolvla,
            diffusion). Default: the shipped one, or a published one of that type. A factory of your
            own gets it as it is.
        env: so101/pick_place, so101/pick_place_range (joints in -100..100), so101/pick_place_brick,
            so101/pick_place_ee and _ee_delta (end-effector actions), so101/pick_place_words (the
            instruction decides), so101/pick_place_either (two ways to succeed);
            so101/pick_place@scene.xml takes a MuJoCo model of your own. Every task of a LIBERO
            suite: libero_spatial, libero_object, libero_goal, libero_10, libero_90, and those of
            LIBERO-PRO; <suite>/3, or a task's name, is one of them; <suite>,<suite> runs both.
            --list-envs shows all. my_package.my_module:family/task is an environment of your own
            (sim.families.EnvFamily). auto: where the shipped checkpoint was trained, or what
            --demos are of, else so101/pick_place.
        control: how LIBERO's end-effector actions are read: relative to where the arm is, or as
            absolute poses. Default: relative. Other environments have no such choice.
        n_action_steps: actions of a chunk to execute before the next prediction. Default: the
            checkpoint's.
        horizon: control steps after which an episode is over. Default: the environment's.
        device: cpu, cuda, ... or auto: the GPU where there is one.
        camera_map: env=policy,env=policy: which of the environment's cameras is which of the
            policy's.
        image_size: WIDTHxHEIGHT of the images that the policy is shown, e.g. 640x480, where its
            training had another size than its config.json declares. Default: the declared one.
        allow_missing_camera: run without a camera that the environment lacks: masked, or black.
        allow_padding: fill a state up with zeros, and cut an action to the environment's width.
        policy_actions: what the policy outputs, where that is not what the environment takes: delta
            (from the state in which the chunk was predicted, gripper excepted) or absolute.
        calibration: of the SO-100 or SO-101 that the policy learned from, where it is not today's:
            so100-old is lerobot's before June 2025 (shoulder_lift = 90 - x, elbow_flex = x + 90).
            State and plans are converted.
        gripper_range: the policy's values for closed and open, e.g. 0 1 or 1 -1. Default: the
            environment's.
        gripper_offset: added to the gripper's target, in the environment's units.
        gripper_min: lower bound of the gripper's target, in the environment's units.
        wrong_instruction: tell the policy, in an environment of several instructions, the one that
            names the other block and the other receptacle: one that reads its instruction must then
            fail.
        trust_remote_code: run code that the checkpoint brings or names.
    """

    policy: str | None = None
    checkpoint: str | None = None
    env: str = AUTO_ENV
    control: Control | None = None
    n_action_steps: int | None = None
    horizon: int | None = None
    device: str = "auto"
    camera_map: str | None = None
    image_size: str | None = None
    allow_missing_camera: bool = False
    allow_padding: bool = False
    policy_actions: Literal["absolute", "delta"] | None = None
    calibration: Literal["so100-old"] | None = None
    gripper_range: tuple[float, float] | None = None
    gripper_offset: float = 0.0
    gripper_min: float | None = None
    wrong_instruction: bool = False
    trust_remote_code: bool = False


@dataclass(frozen=True)
class EvalConfig(SubjectConfig):
    """Roll a policy out and say how often it succeeds, and where it fails when it does not.

    Examples:
      ./run eval --policy act --episodes 30
      ./run eval --checkpoint act-early --video failures
      ./run eval --checkpoint path/or/hub-id --env so101/pick_place_brick --camera-map overhead_cam=camera1
      ./run eval --checkpoint path/or/hub-id --env libero_spatial --episodes 10
      ./run eval --resume runs/20260101T120000Z-act-so101-pick_place

    Episode k begins alike on every machine: its initial state depends on (environment, task, k)
    alone. The doctor (`eval-doctor`) looks first, and refuses what would give a wrong number. Exit
    codes: 0 done, 2 refused or bad input, 3 finished with crashed episodes, 130 interrupted.

    Attributes:
        demos: LIBERO demonstrations (HDF5) that --policy replay repeats: episode k begins as the
            k-th did, and the environment is that of the file.
        episodes: how many of each task, from --first-episode on.
        first_episode: index of the first.
        samples: plans to record at every prediction: the executed one, and alternatives that the
            policy might have made. They change no number and take time.
        intermediate plans: record what each plan was made from: the steps of its denoising (smolvla, pi0, pi05,
            xvla, groot), or of ACT with temporal ensembling the chunk before it was averaged. They
            change no number.
        collect_features: keep what the network knew at each prediction (its condition embedding,
            one vector) for `cknna score`. It changes no number and takes no forward pass of its
            own.
        hook: modules of the network to listen to besides, by their path (model.encoder.layers.0),
            one or several.
        pool: how the tokens that such a module puts out become one vector. Default: masked-mean
            where the policy masks padding, else mean.
        record_observations: keep what the policy saw at each prediction, to be shown to others:
            `cknna extract`.
        run_dir: where the run folder is made.
        resume: finish an interrupted run; what its numbers depend on is taken from it.
        video: which episodes to film after the last has ended (mp4 in the run folder).
        doctor: let the doctor refuse; --no-doctor runs in spite of its errors, and the run says so.
        quiet: no progress bar and no table, one line.
        list_envs: show the environments and suites, and do nothing else. With words behind it:
            every environment and task that has all of them in its name or instruction, with its
            horizon, e.g. --list-envs libero_goal drawer.
    """

    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "most used": ("policy", "checkpoint", "env", "episodes", "video", "resume"),
        "which episodes, and where they go": (
            "list_envs",
            "demos",
            "first_episode",
            "run_dir",
            "doctor",
            "quiet",
        ),
        "how they run": SETTING_FLAGS,
        "to fit a checkpoint to the environment": ADAPTER_FLAGS,
        "what is recorded besides": (
            "samples",
            "intermediate_plans",
            "collect_features",
            "hook",
            "pool",
            "record_observations",
        ),
    }
    demos: str | None = None
    episodes: int = 30
    first_episode: int = 0
    samples: int = 1
    intermediate_plans: bool = False
    collect_features: bool = False
    hook: tuple[str, ...] = ()
    pool: Literal["mean", "masked-mean", "first", "last"] | None = None
    record_observations: bool = False
    run_dir: Path = Path("runs")
    resume: Path | None = None
    video: Literal["none", "failures", "all"] = "none"
    doctor: bool = True
    quiet: bool = False
    list_envs: tuple[str, ...] | None = None


@dataclass(frozen=True)
class DoctorConfig(SubjectConfig):
    """Say what would make the number of a policy wrong, or why it scored so low.

    Examples:
      ./run eval-doctor --checkpoint path/or/hub-id --env so101/pick_place
      ./run eval-doctor runs/20260101T120000Z-act-so101-pick_place
      ./run eval-doctor --env so101/pick_place_brick

    Before a run it looks at the checkpoint, the environment and a handful of predictions; with a
    run folder it looks at what happened there too. An environment without a policy is put through
    its contract: that a reset is the same each time, that a snapshot continues bit for bit, that
    nothing is rendered unasked, and what else `sim` promises. Exit codes: 0 fine, 1 warnings, 2
    errors, or nothing that could be looked at.

    Attributes:
        run: a run folder; what it ran is taken from it.
        all: show what is fine, too, and the evidence of what could not be told. Otherwise these are
            counted.
        json: print all findings as JSON.
    """

    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "most used": ("run", "policy", "checkpoint", "env", "all", "json"),
        "how it runs": SETTING_FLAGS,
        "to fit a checkpoint to the environment": ADAPTER_FLAGS,
    }
    run: Positional[Path | None] = None
    all: bool = False
    json: bool = False

    @property
    def is_about_env_alone(self) -> bool:
        """Return whether an environment was typed, and neither a policy nor a run."""
        return (
            self.env != AUTO_ENV
            and self.policy is None
            and self.checkpoint is None
            and self.run is None
        )
