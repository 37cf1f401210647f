"""The settings of the commands: pure data, whose docstrings are the commands' help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

from cknna.config import HookConfig
from policies.config import PolicyConfig
from sim.spec import ActionMode, SuccessRule

# The environment that `auto` means if nothing says where the checkpoint was trained.
DEFAULT_ENV = "so101/pick_place"
AUTO_ENV = "auto"
# Evaluation counts from 0; nobody evaluates a million episodes.
FIRST_DEMO_EPISODE = 1_000_000


@dataclass(frozen=True)
class DemoConfig:
    """Record the scripted expert's successes: a LeRobotDataset, or for LIBERO its own HDF5.

    Examples:
      ./run eval-demos --output demos --episodes 250
      ./run eval-demos --output demos --env libero_object/0 --episodes 50

    Attributes:
        output: folder of the new dataset. For LIBERO it is the file, which gets the ending .hdf5 if
            it has another one; LIBERO's tools expect <task's name>_demo.hdf5.
        env: environment to record in.
        episodes: successes to record. LIBERO has 50 init states a task.
        first_episode: index of the first. Default: far from evaluation's; in LIBERO 0, of its own
            init states.
        near_object: fraction of episodes that begin with the gripper somewhere above the block.
            This and the next two are for the SO-101; elsewhere the expert is recorded as it is.
        noisy: fraction of episodes whose executed targets are perturbed while the recorded ones
            stay clean (DART, Laskey et al. 2017): the policy sees how to come back.
        noise_deg: standard deviation of that Ornstein-Uhlenbeck noise, a joint.
        videos: store mp4 (lossy) in place of lossless images. LIBERO's layout has images alone.
        workers: processes that simulate episodes; this one writes them. The demonstrations do not
            depend on it. auto: as many as there are cores, memory and episodes for.
    """

    help_groups: ClassVar = {
        "most used": ("output", "env", "episodes", "near_object", "noisy", "videos", "workers"),
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
    workers: int | Literal["auto"] = "auto"


@dataclass(frozen=True)
class EnvConfig:
    """Names an environment.

    Attributes:
        name: so101/pick_place, so101/pick_place_range (joints in -100..100),
            so101/pick_place_brick, so101/pick_place_ee and _ee_delta (end-effector actions),
            so101/pick_place_words (the instruction decides), so101/pick_place_either (two ways to
            succeed); so101/pick_place@scene.xml takes a MuJoCo model of your own. A LIBERO suite
            stands for all of its tasks: libero_spatial, libero_object, libero_goal, libero_10,
            libero_90, and those of LIBERO-PRO; <suite>/3, or a task's name, is one of them;
            <suite>,<suite> runs both. robosuite/Lift is a task of robosuite. --list-envs shows all.
            my_package.my_module:family/task is an environment of your own (sim.families.EnvFamily).
            auto: where the shipped checkpoint was trained, or the environment of --demos, else
            so101/pick_place.
        control: how end-effector actions are read in LIBERO and robosuite: as differences from
            where the arm is, or as absolute poses. Default: delta. The SO-101 has no such choice.
        init_grid: begin the episodes on a regular grid of initial states, in place of drawn ones.
            10x10 is a grid of the object's x and y; 'object x=8,object yaw=4' names the numbers.
            Each cell is one episode, unless --episodes says otherwise.
    """

    name: Annotated[str, arg(name="env")] = AUTO_ENV
    control: ActionMode | None = None
    init_grid: str | None = None


@dataclass(frozen=True)
class RolloutConfig:
    """Says how an episode is run.

    Attributes:
        n_action_steps: actions of a chunk to execute before the next prediction. Default: the
            checkpoint's.
        max_steps: control steps after which an episode is over. Default: the environment's.
        success: once: an episode ends with its first success. at_end: it runs to its last step,
            and that step decides. Default: at_end in SimplerEnv, as its published protocol says,
            and once in all others.
    """

    n_action_steps: int | None = None
    max_steps: Annotated[int | None, arg(aliases=["--horizon"])] = None
    success: SuccessRule | None = None


@dataclass(frozen=True)
class AdapterConfig:
    """Says what stands between a checkpoint and an environment with other conventions.

    Attributes:
        camera_map: env=policy,env=policy: which of the environment's cameras is which of the
            policy's.
        image_size: WIDTHxHEIGHT of the images that the policy is shown, e.g. 640x480, if it was
            trained on another size than its config.json declares. Default: the declared one.
        allow_missing_camera: run without a camera that the environment lacks: masked, or black.
        allow_padding: fill a state up with zeros, and cut an action to the environment's width.
        policy_actions: what the policy outputs, if that is not what the environment takes: delta
            (from the state in which the chunk was predicted, gripper excepted) or absolute.
        calibration: of the SO-100 or SO-101 that the policy learned from, if it is not today's:
            so100-old is lerobot's before June 2025 (shoulder_lift = 90 - x, elbow_flex = x + 90).
            State and plans are converted.
        gripper_range: the policy's values for closed and open, e.g. 0 1 or 1 -1. Default: the
            environment's.
        gripper_offset: added to the gripper's target, in the environment's units.
        gripper_min: lower bound of the gripper's target, in the environment's units.
        wrong_instruction: in an environment of several instructions, tell the policy the one that
            names the other block and the other receptacle. A policy that reads its instruction
            must then fail.
    """

    camera_map: str | None = None
    image_size: str | None = None
    allow_missing_camera: bool = False
    allow_padding: bool = False
    policy_actions: ActionMode | None = None
    calibration: Literal["so100-old"] | None = None
    gripper_range: tuple[float, float] | None = None
    gripper_offset: float = 0.0
    gripper_min: float | None = None
    wrong_instruction: bool = False


@dataclass(frozen=True)
class SubjectConfig:
    """Says what is evaluated, and where.

    Attributes:
        policy: policy.
        env: environment.
        rollout: how an episode is run.
        adapters: to fit a checkpoint to the environment.
    """

    policy: PolicyConfig = PolicyConfig()
    env: EnvConfig = EnvConfig()
    rollout: RolloutConfig = RolloutConfig()
    adapters: AdapterConfig = AdapterConfig()

    def describe(self) -> str:
        """Return which policy in which environment, as far as the user said."""
        name = self.policy.name
        checkpoint = self.policy.checkpoint or self.policy.server
        named = f"{name} ({checkpoint})" if name and checkpoint else name or checkpoint or "act"
        where = "" if self.env.name == AUTO_ENV else f" in {self.env.name}"
        return named + where


@dataclass(frozen=True)
class RecordingConfig:
    """Says what is recorded besides the plans that are executed. None of it changes a number.

    Attributes:
        samples: plans to record at every prediction: the executed one, and alternatives that the
            policy might have made. They take time.
        intermediate_plans: record what each plan was made from: the steps of its denoising
            (smolvla, pi0, pi05, xvla, groot, eo1, evo1, vla_jepa, open_pi_zero), or of ACT with
            temporal ensembling and of spatialvla the chunk before it was averaged.
        collect_features: keep what the network knew at each prediction (its condition embedding,
            one vector) for `cknna score`. It takes no forward pass of its own.
        record_observations: keep what the policy saw at each prediction, to be shown to others:
            `cknna extract`.
    """

    samples: int = 1
    intermediate_plans: Annotated[bool, arg(aliases=["--drafts"])] = False
    collect_features: bool = False
    record_observations: bool = False


@dataclass(frozen=True)
class OutputConfig:
    """Says where the results go.

    Attributes:
        run_dir: folder in which the run folder is made.
        video: which episodes to film after the last has ended (mp4 in the run folder).
        quiet: no progress bar and no table, one line.
    """

    run_dir: Path = Path("runs")
    video: Literal["none", "failures", "all"] = "none"
    quiet: bool = False


@dataclass(frozen=True)
class StoppingConfig:
    """Says when a run may end before its last episode.

    Attributes:
        against: run folder of another policy in the same environment, to compare with.
        until_decided: run the episodes of --against, and end as soon as they decide which policy is
            better. The test may be looked at after each episode: its error is at most 5 %.
        most: end after so many episodes of each task if they decide nothing. Default: as many as
            the other run has.
    """

    against: str | None = None
    until_decided: bool = False
    most: int | None = None


@dataclass(frozen=True)
class ParallelConfig:
    """Says how many episodes run at once. It changes no row.

    Attributes:
        workers: processes that run episodes, each with an environment and a policy of its own. With
            --batch and on a GPU they are environments, and share one policy. auto: as many as there
            are cores, memory and episodes for.
        ray: run the workers in a Ray cluster: auto is the one that this machine belongs to,
            HOST:PORT names another, and local starts one on this machine alone (docs/ray.md).
    """

    workers: int | Literal["auto"] = "auto"
    ray: str | None = None

    @property
    def count(self) -> int | None:
        """Return the number of workers; None if it is still to be chosen."""
        return None if self.workers == "auto" else self.workers


@dataclass(frozen=True)
class EvalConfig(SubjectConfig):
    """Roll a policy out and say how often it succeeds, and where it fails when it does not.

    Examples:
      ./run eval --policy act --episodes 30
      ./run eval --checkpoint act-early --video failures
      ./run eval --checkpoint path/or/hub-id --camera-map overhead_cam=camera1
      ./run eval --checkpoint path/or/hub-id --env libero_spatial --episodes 10
      ./run eval --checkpoint act-early --against runs/<run> --until-decided
      ./run eval --resume runs/20260101T120000Z-act-so101-pick_place

    Episode k begins alike on every machine: its initial state depends on (environment, task, k)
    alone. The doctor (`eval-doctor`) looks first, and refuses what would give a wrong number.

    Exit codes: 0 done, 2 refused or bad input, 3 finished with crashed episodes, 130 interrupted.

    Attributes:
        episodes: how many of each task, from --first-episode on.
        first_episode: index of the first.
        batch: episodes whose plans are made together in one forward pass. The last bits of a plan
            depend on this number, but not on the other episodes.
        max_errors: end the run (exit code 2) when so many episodes of this command have crashed,
            e.g. because a policy server died; --resume runs the rest. Default: run all.
        demos: demonstrations of LIBERO or robomimic (HDF5) that --policy replay repeats: episode k
            begins as the k-th did, and the environment is that of the file.
        resume: finish an interrupted run; what its numbers depend on is taken from it.
        retry_errors: with --resume, run the episodes again that have crashed. Their rows stay in
            errors.jsonl.
        doctor: let the doctor refuse; --no-doctor runs in spite of its errors, and the run says so.
        list_envs: show the environments and suites, and do nothing else. With words behind it:
            every environment and task that has all of them in its name or instruction, with its
            steps, e.g. --list-envs libero_goal drawer.
        recording: what is recorded besides.
        hook: modules of the network to listen to.
        stopping: when it may end early.
        parallel: how many at once.
        output: where the results go.
    """

    help_groups: ClassVar = {
        "episodes": (
            "episodes",
            "first_episode",
            "batch",
            "max_errors",
            "resume",
            "retry_errors",
            "doctor",
            "demos",
            "list_envs",
        )
    }
    episodes: int = 30
    first_episode: int = 0
    batch: int = 1
    max_errors: int | None = None
    demos: str | None = None
    resume: Path | None = None
    retry_errors: bool = False
    doctor: bool = True
    list_envs: tuple[str, ...] | None = None
    recording: RecordingConfig = RecordingConfig()
    hook: HookConfig = HookConfig()
    stopping: StoppingConfig = StoppingConfig()
    parallel: ParallelConfig = ParallelConfig()
    output: OutputConfig = OutputConfig()

    @property
    def episode_indices(self) -> range:
        """Return the indices of the episodes of each task."""
        return range(self.first_episode, self.first_episode + self.episodes)


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
    nothing is rendered unasked, and what else `sim` promises.

    Exit codes: 0 fine, 1 warnings, 2 errors, or nothing that could be looked at.

    Attributes:
        run: a run folder; what it ran is taken from it.
        all: show what is fine, too, and the evidence of what could not be told. Otherwise these are
            counted.
        json: print all findings as JSON.
    """

    help_groups: ClassVar = {"what to look at": ("run", "all", "json")}
    run: Positional[Path | None] = None
    all: bool = False
    json: bool = False

    @property
    def is_about_env_alone(self) -> bool:
        """Return whether an environment was typed, and neither a policy nor a run."""
        named = self.policy
        names_no_policy = (named.name, named.checkpoint, named.server) == (None, None, None)
        return self.env.name != AUTO_ENV and names_no_policy and self.run is None
