"""The training loop of every recipe, with checkpoints by step, a loss record and resuming."""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from policies.lerobot_dataset import DemonstrationFrames
from policies.recipes.loss_curve import LossRecord
from policies.recipes.policy_parts import make_config, make_vlm, save_checkpoint
from policies.recipes.recipe import Recipe
from policies.recipes.training_run import LATEST_FILE, TrainingJob, TrainingRun
from policies.recipes.training_set import TrainingSet
from sim.errors import WhiskerError

# Number of steps between two rows of the loss record, and between two printed lines.
N_REPORT_STEPS = 100
_RECIPE_FILE = "recipe.json"
_RESUME_FOLDER = "resume"
_RENDEZVOUS_FILE = "rendezvous"


@dataclass(frozen=True)
class Training:
    """A recipe with its demonstrations and its output folder.

    Attributes:
        name: of the recipe, and of the checkpoint at the end of the training.
        demos: folder of a LeRobotDataset, which says in which environment it was recorded.
        n_checkpoint_samples: also keep a checkpoint, and the state to resume from, every so many
            samples. 0: none.
    """

    name: str
    recipe: Recipe
    demos: Path
    output: Path
    n_checkpoint_samples: int = 0

    def checkpoint_names(self) -> Mapping[int, str]:
        """Return step → name of the checkpoint that is saved at that step."""
        recipe = self.recipe
        names = {recipe.n_steps: self.name}
        for name, n_samples in recipe.early.items():
            names.setdefault(n_samples // recipe.batch_size, name)
        interval = self.n_checkpoint_samples
        if interval:
            for n_samples in range(interval, recipe.n_samples, interval):
                names.setdefault(n_samples // recipe.batch_size, f"{self.name}-{n_samples}")
        return names


def train(
    training: Training,
    frames: DemonstrationFrames,
    *,
    resume: bool = False,
) -> None:
    """Run a training, or resume one. Progress is printed once every hundred steps.

    Raises:
        WhiskerError: the training to resume used another recipe, or has no saved state.
    """
    recipe = training.recipe
    output = training.output
    output.mkdir(parents=True, exist_ok=True)
    first_step = _begin(training, resume)
    vlm = make_vlm(recipe, output, frames.instructions)
    job = TrainingJob(
        recipe=recipe,
        resume_folder=output / _RESUME_FOLDER,
        config=make_config(recipe, frames.features, vlm),
        demos=TrainingSet.from_frames(frames, recipe.before_grasp_weight, recipe.reads_goal),
        stats=frames.stats,
        n_processes=1 if torch.cuda.is_available() else recipe.n_processes,
    )
    print(f"{len(job.demos)} frames, {recipe.n_samples} samples", flush=True)
    # With the file of a training that was killed, this one would wait for processes that are gone.
    (output / _RENDEZVOUS_FILE).unlink(missing_ok=True)
    arguments = (training, job, vlm, first_step)
    if job.n_processes == 1:
        _train_process(0, *arguments)
        return
    job.demos.share_memory()
    mp.start_processes(_train_process, arguments, nprocs=job.n_processes, start_method="spawn")


def _begin(training: Training, resume: bool) -> int:
    """Write the recipe to its file, and return the number of steps that are already done."""
    path = training.output / _RECIPE_FILE
    settings = asdict(training.recipe)
    if not resume:
        shutil.rmtree(training.output / _RESUME_FOLDER, ignore_errors=True)
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        return 0
    subject = f"training in {str(training.output)!r}"
    latest = training.output / _RESUME_FOLDER / LATEST_FILE
    if not latest.is_file():
        raise WhiskerError(
            subject,
            expected=f"{latest.name} in its folder {_RESUME_FOLDER!r}, to resume from",
            got="none",
            hint="Leave --resume out. --n-checkpoint-samples saves the state to resume from.",
        )
    # Written to JSON and read again, tuples become lists.
    saved_settings = json.loads(path.read_text(encoding="utf-8"))
    if saved_settings != json.loads(json.dumps(settings)):
        raise WhiskerError(
            subject,
            expected=f"the recipe that it began with, in {_RECIPE_FILE}",
            got="another one",
            hint="Train into another folder.",
        )
    return int(json.loads(latest.read_text(encoding="utf-8"))["step"])


def _train_process(
    rank: int,
    training: Training,
    job: TrainingJob,
    vlm: Path | None,
    first_step: int,
) -> None:
    """Train in one process; the process with rank 0 writes record and checkpoints."""
    recipe = job.recipe
    rendezvous = training.output / _RENDEZVOUS_FILE
    device = _join(rank, job.n_processes, rendezvous)
    torch.manual_seed(recipe.seed)
    run = TrainingRun(job, rank, device)
    if first_step:
        run.load(first_step)
    record = LossRecord(training.output, first_step) if rank == 0 else None
    checkpoint_names = training.checkpoint_names()
    start_s = time.monotonic()
    for step in range(first_step + 1, recipe.n_steps + 1):
        if step >= recipe.n_steps * 4 // 5:
            run.learner.start_last_fifth()
        run.advance()
        if step % recipe.n_sync_steps == 0:
            run.average()
        is_report_step = step % N_REPORT_STEPS == 0 or step == recipe.n_steps
        if record is not None and is_report_step:
            n_samples = (step - first_step) * recipe.batch_size
            _report(record, run, step, recipe, n_samples / (time.monotonic() - start_s))
        if step in checkpoint_names:
            if record is not None:
                # A checkpoint must not change the training: it takes the average as it is.
                folder = training.output / checkpoint_names[step]
                policy = run.ema.export()
                save_checkpoint(policy, job.config, job.stats, folder, training.demos, vlm)
                record.draw()
            if training.n_checkpoint_samples:
                run.save(step)
    _leave(rank, job.n_processes, rendezvous)


def _join(rank: int, n_processes: int, rendezvous: Path) -> torch.device:
    """Connect this process to the others, and return the device that it trains on."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    if n_processes > 1:
        url = rendezvous.absolute().as_uri()
        dist.init_process_group("gloo", init_method=url, rank=rank, world_size=n_processes)
    return device


def _leave(rank: int, n_processes: int, rendezvous: Path) -> None:
    if n_processes > 1:
        dist.destroy_process_group()
    if rank == 0:
        rendezvous.unlink(missing_ok=True)


def _report(
    record: LossRecord,
    run: TrainingRun,
    step: int,
    recipe: Recipe,
    samples_per_s: float,
) -> None:
    """Add a row to the loss record, and print it."""
    action, position = (loss.item() for loss in run.mean_losses)
    row = {
        "step": step,
        "samples": step * recipe.batch_size,
        "action_loss": action,
        "position_loss": position,
        "learning_rate": run.learning_rate,
        "samples_per_s": round(samples_per_s, 1),
    }
    record.add(row)
    losses = f"loss {action:.4f}  position {position:.4f}"
    print(f"step {step}/{recipe.n_steps}  {losses}  {samples_per_s:.0f} samples/s", flush=True)
