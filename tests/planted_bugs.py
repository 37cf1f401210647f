"""Plant bugs in a shipped policy, one at a time, and print what the doctor says about each.

    ./run python -m tests.planted_bugs
    ./run python -m tests.planted_bugs --policy smolvla

The verdict on a bug is one of four:

- *named*: a warning or an error of the right check reports the bug.
- *disagrees*: the doctor says only that the policy does not plan what the expert does.
- *missed*: the doctor reports nothing.
- *misnamed*: only other checks complain.

Healthy policies should have no findings. The command takes some minutes.

With --rollouts, each policy is rolled out too, which takes about half an hour. A table for ACT then
shows how the disagreement is related to success for checkpoints that get worse step by step.
"""

import argparse
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from eval.config import SubjectConfig
from eval.doctor.check_context import CheckContext
from eval.doctor.diagnosis import run_checks
from eval.doctor.disagreement import compute_disagreement
from eval.evaluation import set_up
from policies.action_chunk import ActionChunk
from policies.checkpoint_files import find_checkpoint
from sim.errors import WhiskerError
from sim.flags import make_config, replace_flags
from tests.bug_plants import (
    GRIPPER,
    OVERHEAD,
    WRIST,
    Plant,
    as_differences,
    at,
    between_bars,
    coarse,
    cut_after,
    exchanged,
    frozen,
    gamma,
    grey,
    half_speed,
    identity,
    imagenet,
    images,
    in_old_calibration,
    in_radians,
    in_steps,
    larger_tokenizer,
    late,
    mirrored_gripper,
    moved,
    noisy,
    noisy_image,
    noisy_plans,
    normalised,
    opposite,
    plus,
    settings,
    shown_twice,
    shuffled,
    state,
    statistics,
    statistics_of,
    swapped_cameras,
    the_first_always,
    tokenizer_of_another_order,
    tokenizer_of_bytes,
    towards_early,
    weights,
    with_constant_gripper,
    with_flipped_shoulder,
    with_nan,
    words,
)
from tests.recordings import roll_out

N_ROLLOUTS = 6
N_GRADED = 20
DISAGREES = "agreement"
# The number of characters of a finding that the table shows.
SHOWN = 160

TURNED = "image flip"
ORDER = "joint order|state order"
STATISTICS = "refused|statistics|postprocessor|normalised observation|weights"
ANY_STATE = "state|state order|state units|normalised observation|training environment"
ACTIONS = "action range|action scale|action units|planned actions|postprocessor|statistics"

# Bias of the last layer of ACT, of the diffusion policy and of SmolVLA.
LAST_BIAS = ("action_head.bias", "final_conv.1.bias", "action_out_proj.bias")

PLANTS = (
    Plant("images rotated by 180°", TURNED, "180", seen=images(lambda i: i[::-1, ::-1])),
    Plant("images upside down", TURNED, "upside", seen=images(lambda i: i[::-1])),
    Plant("images mirrored", TURNED, "mirrored", seen=images(lambda i: i[:, ::-1])),
    Plant("images rotated by 90°", TURNED, "270|90", seen=images(np.rot90)),
    Plant("overhead camera rotated by 90°", TURNED, OVERHEAD, seen=images(np.rot90, OVERHEAD)),
    Plant(
        "overhead camera rotated by 180°",
        TURNED,
        OVERHEAD,
        seen=images(lambda i: i[::-1, ::-1], OVERHEAD),
    ),
    Plant("wrist camera upside down", TURNED, WRIST, seen=images(lambda i: i[::-1], WRIST)),
    Plant("red and blue exchanged", "channel order", seen=images(lambda i: i[..., ::-1])),
    Plant(
        "red and blue exchanged, wrist",
        "channel order",
        WRIST,
        seen=images(lambda i: i[..., ::-1], WRIST),
    ),
    Plant("images darker (gamma 2.2)", "gamma", seen=images(gamma(2.2))),
    Plant("images brighter (gamma 1/2.2)", "gamma", seen=images(gamma(1 / 2.2))),
    Plant("images scaled twice", "cameras|pictures", seen=images(lambda i: i // 255)),
    Plant("images inverted", "cameras", seen=images(lambda i: 255 - i)),
    Plant("images grey", "colour", seen=images(grey)),
    Plant("letterbox", "letterbox", seen=images(between_bars)),
    Plant("16 px blown up", "pictures", "detail", seen=images(coarse)),
    Plant("noise of 40 levels", "cameras", seen=images(noisy_image)),
    Plant("overhead camera black", "pictures", OVERHEAD, seen=images(np.zeros_like, OVERHEAD)),
    Plant("wrist camera black", "pictures", WRIST, seen=images(np.zeros_like, WRIST)),
    Plant("overhead camera frozen", "pictures", OVERHEAD, seen=frozen(OVERHEAD)),
    Plant("wrist camera frozen", "pictures", WRIST, seen=frozen(WRIST)),
    Plant("cameras exchanged", "cameras", "swapped", seen=swapped_cameras),
    Plant("one camera in both slots", "pictures", "same image", seen=shown_twice),
    Plant(
        "overhead camera moved (8 % of the picture)",
        "camera pose",
        OVERHEAD,
        seen=images(moved(5), OVERHEAD),
    ),
    Plant(
        "overhead camera turned by 8°",
        "camera pose",
        OVERHEAD,
        seen=images(moved(0, 0, 8), OVERHEAD),
    ),
    Plant(
        "overhead camera sees 1.5 x less",
        "camera pose",
        "sees less",
        seen=images(moved(0, zoom=1.5), OVERHEAD),
    ),
    Plant("gripper's state mirrored", "gripper state", seen=state(mirrored_gripper)),
    Plant("two joints exchanged in the state", ORDER, seen=state(exchanged)),
    Plant("state in radians", ANY_STATE, seen=state(np.deg2rad)),
    Plant("state always zero", f"{ANY_STATE}|sensitivity", seen=state(np.zeros_like)),
    Plant("elbow's state 30° off", f"joint offset|{ANY_STATE}", "elbow", seen=state(plus(2, 30))),
    Plant("two joints exchanged in the plans", "joint order", plans=lambda p, s: exchanged(p)),
    Plant("shoulder's sign turned", "joint sign", plans=with_flipped_shoulder),
    Plant("plans backwards", "plan order", plans=lambda p, s: p[:, ::-1]),
    Plant("plans 4 steps late", "timing", plans=late),
    Plant("plans half as fast", "timing", plans=half_speed),
    Plant(
        "gripper turned in the plans",
        "gripper",
        "swapped",
        plans=lambda p, s: mirrored_gripper(p),
    ),
    Plant("gripper stays at its mean", "gripper", "hardly", plans=with_constant_gripper),
    Plant("differences sent as targets", "delta or absolute", plans=as_differences),
    Plant("plans left normalised", "postprocessor", plans=normalised),
    Plant("plans in radians", ACTIONS, plans=in_radians),
    Plant("elbow planned 30° off", "joint offset", "elbow", plans=lambda p, s: plus(2, 30)(p)),
    Plant("one plan for every moment", "plans", "same at every moment", plans=the_first_always()),
    Plant("plans with a NaN", "agreement|planned actions|plans", "finite", plans=with_nan),
    Plant(
        "noise of 10° on the plans",
        "agreement",
        "does not plan|little to do",
        plans=noisy_plans,
    ),
    Plant(
        "image statistics x 255",
        STATISTICS,
        files=statistics(lambda n, v: v * 255 if "image" in n else v),
    ),
    Plant(
        "image std of 0.002",
        STATISTICS,
        files=statistics_of("observation.image", lambda v: v * 0 + 0.002, "std"),
    ),
    Plant("ImageNet's image statistics instead", "image statistics", files=statistics(imagenet)),
    Plant("images not normalised", STATISTICS, files=identity("preprocessor", "VISUAL")),
    Plant("state not normalised", STATISTICS, files=identity("preprocessor", "STATE")),
    Plant("actions not un-normalised", STATISTICS, files=identity("postprocessor", "ACTION")),
    Plant(
        "action scale halved",
        ACTIONS,
        files=statistics_of("action", lambda v: v / 2, "std", "min", "max"),
    ),
    Plant(
        "other action std after than before",
        STATISTICS,
        files=statistics_of("action", lambda v: v * 3, "std", part="postprocessor"),
    ),
    Plant(
        "action statistics in another joint order",
        f"{ORDER}|{ACTIONS}",
        files=statistics_of("action", exchanged),
    ),
    Plant(
        "state statistics in another joint order",
        f"{ORDER}|{STATISTICS}",
        files=statistics_of("observation.state", exchanged),
    ),
    Plant(
        "state statistics in radians",
        ANY_STATE,
        files=statistics_of("observation.state", np.deg2rad),
    ),
    Plant("action statistics in radians", ACTIONS, files=statistics_of("action", np.deg2rad)),
    Plant(
        "infinite state statistics",
        STATISTICS,
        files=statistics_of("observation.state", lambda v: v + np.inf, "mean", "std"),
    ),
    Plant(
        "NaN in the action's std",
        STATISTICS,
        "finite|statistics",
        files=statistics_of("action", at(2, np.nan), "std"),
    ),
    Plant(
        "gripper's action std 0",
        f"{STATISTICS}|gripper",
        files=statistics_of("action", at(GRIPPER, 0.0), "std"),
    ),
    Plant(
        "an arm calibrated lerobot's old way",
        "calibration",
        "shoulder_lift = 90 - x, elbow_flex = x + 90",
        files=in_old_calibration,
    ),
    Plant("random backbone", "inputs|weights", files=weights(shuffled)),
    Plant(
        "NaN in the weights",
        "weights",
        files=weights(lambda n, v: at(0, np.nan)(v) if n.endswith(LAST_BIAS) else v),
    ),
    Plant(
        "NaN in a BatchNorm buffer",
        "weights",
        files=weights(
            lambda n, v: at(0, np.nan)(v) if n.endswith("layer1.0.bn1.running_mean") else v
        ),
    ),
    Plant(
        "negative variance in a BatchNorm buffer",
        "weights",
        files=weights(lambda n, v: -v if n.endswith("layer1.0.bn1.running_var") else v),
    ),
    Plant(
        "another n_heads in config.json",
        "agreement",
        files=settings(
            "config.json",
            lambda c: c.update(n_heads=c["n_heads"] // 2),
        ),
    ),
    Plant(
        "another activation in config.json",
        "agreement",
        files=settings(
            "config.json",
            lambda c: c.update(feedforward_activation="gelu"),
        ),
    ),
    Plant(
        "joints in -100..100 instead of degrees",
        "state order and units|training environment",
        flags={"env": "so101/pick_place_range"},
    ),
    Plant(
        "the brick's scene",
        "training environment|field of view",
        flags={"env": "so101/pick_place_brick"},
    ),
)


WORDS = "instruction"
VOCABULARY = "vocabulary"
PLANTS_OF_SMOLVLA = (
    Plant("another instruction than the episode's", WORDS, seen=words(opposite)),
    Plant("no instruction", WORDS, "not as in training", seen=words(lambda text: "")),
    Plant(
        "an instruction of other words",
        WORDS,
        "not as in training",
        seen=words(lambda text: text.replace("Pick up", "Grasp").replace("place it", "put it")),
    ),
    Plant("the instruction cut after 6 tokens", WORDS, "cut|same", files=cut_after(6)),
    Plant("the instruction cut after 3 tokens", WORDS, "cut|same", files=cut_after(3)),
    Plant("a byte tokenizer", VOCABULARY, files=tokenizer_of_bytes),
    Plant("a tokenizer of more words", f"{VOCABULARY}|refused", files=larger_tokenizer),
    Plant(
        "a tokenizer of as many words",
        f"{WORDS}|{VOCABULARY}",
        files=tokenizer_of_another_order,
    ),
    Plant("one denoising step", "denoising", files=in_steps(num_steps=1)),
)

PLANTS_OF_DIFFUSION = (
    Plant("one denoising step", "denoising", files=in_steps(num_inference_steps=1)),
    Plant("two denoising steps", "denoising", files=in_steps(num_inference_steps=2)),
    Plant(
        "the denoiser told to predict the sample",
        "prediction type",
        files=settings(
            "config.json",
            lambda c: c.update(prediction_type="sample"),
        ),
    ),
    Plant(
        "another noise schedule",
        "agreement",
        files=settings(
            "config.json",
            lambda c: c.update(beta_schedule="linear"),
        ),
    ),
)

# These bugs are possible in any policy with cameras, a state and joint targets.
COMMON = (
    "images rotated by 180°",
    "red and blue exchanged",
    "overhead camera black",
    "cameras exchanged",
    "two joints exchanged in the state",
    "state in radians",
    "two joints exchanged in the plans",
    "gripper turned in the plans",
    "differences sent as targets",
    "state statistics in radians",
    "action scale halved",
    "NaN in the weights",
)


GRADED = (
    Plant("act"),
    Plant("5% of noise in the weights", files=noisy(0.05)),
    Plant("10% of noise in the weights", files=noisy(0.1)),
    Plant("15% of noise in the weights", files=noisy(0.15)),
    Plant("20% of noise in the weights", files=noisy(0.2)),
    Plant("30% of noise in the weights", files=noisy(0.3)),
    Plant("50% of noise in the weights", files=noisy(0.5)),
    Plant("25% of act-early's weights", files=towards_early(0.25)),
    Plant("50% of act-early's weights", files=towards_early(0.5)),
    Plant("75% of act-early's weights", files=towards_early(0.75)),
    Plant("act-early", flags={"checkpoint": "act-early"}),
)

ENVS = {
    "act": "so101/pick_place",
    "smolvla": "so101/pick_place_words",
    "diffusion": "so101/pick_place",
}

HEALTHY = (
    {"policy": "act"},
    {"policy": "act", "checkpoint": "act-early"},
    {"policy": "act", "n_action_steps": 5},
    {"policy": "act", "n_action_steps": 10},
    {"policy": "scripted"},
    {"policy": "smolvla"},
    {"policy": "smolvla", "n_action_steps": 20},
    {"policy": "diffusion"},
    {"policy": "diffusion", "n_action_steps": 8},
)


def plants_of(policy):
    """Return the bugs to plant in that policy."""
    if policy == "act":
        return PLANTS
    own = {"smolvla": PLANTS_OF_SMOLVLA, "diffusion": PLANTS_OF_DIFFUSION}[policy]
    return own + tuple(plant for plant in PLANTS if plant.name in COMMON)


def planted(plant, folder, policy="act"):
    """Plant the bug in a copy of the checkpoint, in the environment or in the policy."""
    config = make_config(SubjectConfig, policy=policy, env=ENVS[policy])
    config = replace_flags(config, **plant.flags)
    if plant.files is not None:
        copy = shutil.copytree(find_checkpoint(policy), folder / policy)
        plant.files(copy)
        config = replace_flags(config, checkpoint=str(copy))
    setup = set_up(config)
    if plant.seen is not None:
        spoil = plant.seen
        observe = setup.env.observe
        setup.env.observe = lambda: spoil(observe())
    if plant.plans is not None:
        setup = replace(setup, policy=_OtherPlans(setup.policy, plant.plans))
    return config, setup


class _OtherPlans:
    """Wraps a policy and changes its plans."""

    def __init__(self, policy, change):
        self._policy = policy
        self._change = change
        self.spec = policy.spec
        self.reset = policy.reset
        self.sample = policy.sample
        self.audit = policy.audit
        self.network_inputs = policy.network_inputs
        self.out_of_range_inputs = policy.out_of_range_inputs

    def predict(self, memories, rngs):
        states = np.stack([memory.present.state for memory in memories])
        plans = self._policy.predict(memories, rngs).actions
        return ActionChunk(self._change(plans, states).astype(np.float32))


def judge(plant, findings, refusal):
    """Return the verdict, and what the doctor says first."""
    if refusal:
        is_expected = "refused" in plant.checks.split("|")
        return ("named" if is_expected else "misnamed"), refusal
    problems = [finding for finding in findings if finding.is_problem]
    if not problems:
        agreement = [f"{f.check}: {f.evidence}" for f in findings if f.check == DISAGREES]
        return "missed", next(iter(agreement), "")
    # A disagreement with the expert names no bug.
    naming = [finding for finding in problems if finding.check != DISAGREES]
    for finding in naming:
        if _names(finding, plant):
            return "named", f"{finding.check}: {finding.finding}"
    first = f"{problems[0].check}: {problems[0].finding}"
    return ("misnamed" if naming else "disagrees"), first


def _names(finding, plant):
    has_word = any(word in finding.finding for word in plant.words.split("|"))
    return has_word and finding.check in plant.checks.split("|")


def measure(config, setup):
    """Return the disagreement of the plans with the expert, as the doctor measures it."""
    context = CheckContext(config, setup)
    if context.reference is None:
        return "-"
    plans = context.reference_chunks[:, : context.n_compared]
    return f"{compute_disagreement(plans, context.reference):.2f}"


def count_successes(setup, n_episodes):
    """Return how many of the first episodes succeed."""
    n_success = sum(roll_out(setup, index).success for index in range(n_episodes))
    return f"{n_success} of {n_episodes}"


def show_bugs(policy, only, with_rollouts):
    """Print a table of the bugs whose names contain `only`."""
    verdicts = Counter()
    print("| planted | differs by | success | verdict | what the doctor says first |")
    print("|---|---|---|---|---|")
    for plant in plants_of(policy):
        if only not in plant.name:
            continue
        differs = "-"
        success = "-"
        refusal = ""
        findings = []
        with tempfile.TemporaryDirectory() as folder:
            try:
                config, setup = planted(plant, Path(folder), policy)
                findings = run_checks(config, setup)
                differs = measure(config, setup)
                if with_rollouts:
                    success = count_successes(setup, N_ROLLOUTS)
                setup.env.close()
            except WhiskerError as error:
                refusal = f"refused: {error}".replace(str(folder), "...")
        verdict, said = judge(plant, findings, refusal)
        verdicts[verdict] += 1
        cells = (plant.name, differs, success, verdict, _shorten(said))
        print(f"| {' | '.join(cells)} |", flush=True)
    counts = ", ".join(f"{n} {verdict}" for verdict, n in verdicts.most_common())
    print(f"\n{sum(verdicts.values())} bugs: {counts}")


def _shorten(said):
    if len(said) > SHOWN:
        return f"{said[:SHOWN]}..."
    return said.replace("|", "/")


def show_healthy(policy):
    """Print a table of false alarms."""
    print("\n| healthy | false alarms |\n|---|---|")
    shown = {policy, "scripted"} if policy == "act" else {policy}
    for flags in HEALTHY:
        if flags["policy"] in shown:
            config = make_config(SubjectConfig, **{"env": ENVS[policy]} | flags)
            setup = set_up(config)
            problems = [str(f) for f in run_checks(config, setup) if f.is_problem]
            setup.env.close()
            name = ", ".join(map(str, flags.values()))
            print(f"| {name} | {'; '.join(problems) or 'none'} |", flush=True)


def show_graded():
    """Print a table of disagreement and success of checkpoints that get worse step by step."""
    print(f"\n| checkpoint | differs by | success of {N_GRADED} |\n|---|---|---|")
    for plant in GRADED:
        with tempfile.TemporaryDirectory() as folder:
            config, setup = planted(plant, Path(folder))
            differs = measure(config, setup)
            success = count_successes(setup, N_GRADED)
            print(f"| {plant.name} | {differs} | {success} |", flush=True)
            setup.env.close()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rollouts",
        action="store_true",
        help="roll out each policy too, and checkpoints that get worse",
    )
    parser.add_argument(
        "--policy",
        choices=tuple(ENVS),
        default="act",
        help="shipped policy in which the bugs are planted",
    )
    parser.add_argument("--only", default="", help="plant only bugs that have this in their name")
    arguments = parser.parse_args()
    show_bugs(arguments.policy, arguments.only, arguments.rollouts)
    if not arguments.only:
        show_healthy(arguments.policy)
        if arguments.rollouts and arguments.policy == "act":
            show_graded()


if __name__ == "__main__":
    main()
