"""Tests of bugs that only the comparison with the expert shows.

The doctor must name the bug or report that the policy disagrees. It must not report that all is
well.
"""

from collections import deque
from contextlib import closing
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.random import default_rng

from eval.doctor.agreement import check_agreement
from eval.doctor.check_context import CheckContext, Reference
from eval.doctor.diagnosis import run_checks
from eval.doctor.disagreement import (
    compute_disagreement,
    describe_disagreement,
    find_worst_moment,
)
from eval.doctor.image_checks import measure_detail
from eval.doctor.inputs import check_inputs, measure_inputs
from eval.doctor.joint_bugs import plan_bugs
from policies.action_chunk import ActionChunk
from policies.policy import EpisodeMemory
from sim.flags import replace_flags
from sim.registry import make_env
from tests.bug_plants import (
    OVERHEAD,
    WRIST,
    between_bars,
    exchanged,
    gamma,
    images,
    in_radians,
    mirrored_gripper,
    shown_twice,
    state,
    statistics,
    with_flipped_shoulder,
)
from tests.planted_bugs import PLANTS, judge, plants_of
from tests.planted_bugs import planted as set_up_planted
from tests.test_eval_doctor import (
    ACT,
    act,
    checkpoint,
    examine_copy,
    findings_of,
    in_env,
    named,
    planned,
    seen,
    slow,
    wrapped,
)

__all__ = ["act", "checkpoint"]

# The finding ends with one of these where no known bug explains the disagreement.
UNEXPLAINED = (
    "does not plan what the scripted expert does",
    "have little to do with what the scripted expert does",
)
OF_IMAGES = {"cameras", "image flip", "channel order", "letterbox", "gamma"}


def checks_of(found):
    return {check for check, _ in found}


@pytest.mark.parametrize(
    ("spoil", "check", "words"),
    [
        slow(images(np.rot90), "image flip", "the images are rotated by 270 degrees"),
        slow(images(gamma(2.2)), "gamma", "darker than in training"),
        (images(between_bars), "letterbox", "letterboxed"),
        slow(
            images(lambda i: i[::-1, ::-1], OVERHEAD),
            "image flip",
            "overhead_cam are rotated by 180 degrees",
        ),
        slow(state(mirrored_gripper), "gripper state", "mirrored"),
        slow(
            state(exchanged),
            "joint order",
            "'shoulder_lift.pos' and 'elbow_flex.pos' are exchanged in the state",
        ),
    ],
)
def test_what_the_policy_is_shown_wrongly_is_named(act, spoil, check, words):
    found = findings_of(seen(act, spoil))
    named(found, check, words)
    assert not any(name in text for _, text in found for name in UNEXPLAINED)


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (
            lambda plans, _: exchanged(plans),
            "joint order",
            "in another order ('elbow_flex.pos' gets what 'shoulder_lift.pos' should, ",
        ),
        slow(in_radians, "action units", "radians"),
        slow(with_flipped_shoulder, "joint sign", "the sign of 'shoulder_lift.pos' is flipped"),
        slow(lambda plans, _: plans[:, ::-1], "plan order", "backwards"),
    ],
)
def test_what_happens_to_the_plans_is_named(act, change, check, words):
    named(findings_of(planned(act, change)), check, words)


@pytest.mark.slow
def test_action_statistics_in_radians_are_not_called_differences(checkpoint):
    def to_radians(name, value):
        if name.startswith("action.") and not name.endswith("count"):
            value[:5] = np.deg2rad(value[:5])
        return value

    statistics(to_radians)(checkpoint)
    found = examine_copy(checkpoint)
    named(found, "action units", "look like radians")
    assert "delta or absolute" not in checks_of(found)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (images(np.zeros_like, OVERHEAD), ("overhead_cam", "shows one colour")),
        slow(
            images(lambda i: np.full_like(i, 90), WRIST),
            ("wrist_cam", "shows one colour"),
        ),
        slow(shown_twice, ("wrist_cam", "same image as")),
    ],
)
def test_a_dead_camera_is_named_by_itself(act, spoil, words):
    found = findings_of(seen(act, spoil))
    for part in words:
        named(found, "pictures", part)
    assert not OF_IMAGES & checks_of(found)


@pytest.mark.slow
def test_a_frozen_camera_is_not_called_swapped(act):
    act.env.reset(7)
    first = act.env.observe().images[OVERHEAD]
    found = findings_of(seen(act, images(lambda _: first, OVERHEAD)))
    named(found, "pictures", "overhead_cam is frozen")
    assert not {"cameras", "image flip", "channel order"} & checks_of(found)


def test_a_policy_that_always_plans_the_same_is_named(act):
    still = planned(
        act,
        lambda plans, _: np.broadcast_to(plans[:1], plans.shape),
    )
    named(findings_of(still), "plans", "the same at every moment")


def test_a_disagreement_that_nothing_explains_is_no_fine_finding(act):
    """The planned joints jump at random, and no correction can undo that."""
    jump = 10 * default_rng(0).normal(size=(act.policy.spec.chunk_size, 6))
    found = findings_of(planned(act, lambda plans, _: plans + jump))
    (warning,) = [
        f
        for (check, text), f in found.items()
        if check == "agreement" and text.endswith(UNEXPLAINED)
    ]
    assert warning.level == "warning"
    assert "by joint most in" in warning.evidence


def test_plans_that_disagree_at_one_moment_alone_are_no_fine_finding(act):
    """The first of an oracle's nine plans is another one, which the median does not see."""
    plan_of = plans_by_state(act, CheckContext(ACT, act, None).reference)
    still = np.zeros((act.policy.spec.chunk_size, 6), np.float32)

    def plan(observation):
        return plan_of.get(observation.state.tobytes(), still)

    oracle = wrapped(act, predict=lambda memories, rngs: chunk_of(plan, memories))

    def spoil(plans, _):
        if len(plans) > 1:
            plans[0] += 20
        return plans

    (finding,) = agreement_of(planned(oracle, spoil))
    assert finding.level == "unknown"
    assert finding.finding.startswith("the plans are the scripted expert's actions at most moments")
    assert finding.evidence.endswith("at step 0")
    (finding,) = agreement_of(oracle)
    assert finding.level == "fine"


def oracle_that_looks_at_first(act, references, n_fooled):
    """Return a policy that plans what the expert does, and looks at its images at first moments.

    If they are not what it knows, its first plans of the first `n_fooled` episodes are wrong.
    """
    plan_of = {}
    for reference in references:
        plans = reference.future(act.policy.spec.chunk_size).astype(np.float32)
        plan_of |= dict(zip(map(key_of, memories_of(reference)), plans, strict=True))
    firsts = [memories_of(reference)[0] for reference in references[:n_fooled]]
    first_of = {key_of(first): first.images[OVERHEAD] for first in firsts}

    def plan(observation):
        key = key_of(observation)
        image = observation.images[OVERHEAD]
        still = np.tile(observation.state, (act.policy.spec.chunk_size, 1))
        right = plan_of.get(key, still)
        return right if np.array_equal(first_of.get(key, image), image) else right + 20

    return wrapped(act, predict=lambda memories, rngs: chunk_of(plan, memories))


def memories_of(reference):
    return [memory.present for memory in reference.memories]


def key_of(observation):
    """Return what tells moments apart, and is the same if the image is rotated."""
    return observation.state.tobytes(), observation.images[OVERHEAD].sum(dtype=int)


@pytest.mark.parametrize("n_fooled", [1, 2])
def test_a_bug_that_shows_at_one_moment_is_named_if_it_does_so_in_two_episodes(act, n_fooled):
    healthy = CheckContext(ACT, act, None)
    references = [healthy.reference, healthy.another_reference]
    oracle = oracle_that_looks_at_first(act, references, n_fooled)
    context = CheckContext(ACT, seen(oracle, images(lambda i: i[::-1, ::-1])), None)
    *_, found = check_agreement(context)
    assert "; by " in found.evidence
    if n_fooled == len(references):
        assert found.finding == "the images are rotated by 180 degrees"
        assert found.evidence.endswith(", and 0.00 once that is undone")
    else:
        assert (found.check, found.level) == ("agreement", "unknown")


@pytest.mark.parametrize(("n_std", "is_named"), [(0.17, False), (0.5, True)])
def test_plans_that_are_off_as_little_as_a_healthy_policys_have_no_offset(act, n_std, is_named):
    context = CheckContext(ACT, act, None)
    reference = context.reference
    plans = reference.future(context.n_compared)
    plans[..., 2] += n_std * reference.scale[2]
    offsets = [bug for bug in plan_bugs(context, plans, reference) if bug.check == "joint offset"]
    assert bool(offsets) == is_named


def plans_by_state(setup, reference):
    """Return what the expert does next, by the bytes of the state at each moment."""
    plans = reference.future(setup.policy.spec.chunk_size).astype(np.float32)
    states = [memory.present.state.tobytes() for memory in reference.memories]
    return dict(zip(states, plans, strict=True))


def chunk_of(plan, memories):
    return ActionChunk(np.stack([plan(memory.present) for memory in memories]))


def agreement_of(setup):
    context = CheckContext(ACT, setup, None)
    return [finding for finding in check_agreement(context) if finding.check == "agreement"]


def test_a_search_that_took_too_long_is_not_called_complete(act):
    """The images are rotated, which only the bugs of observations explain."""
    with_rotated = seen(act, images(np.rot90))
    context = CheckContext(ACT, with_rotated, None)
    vars(context)["prediction_s"] = 3.0  # a slow policy: 9 moments are compared, 36 are too many
    (warning,) = [f for f in check_agreement(context) if f.check == "agreement"]
    assert warning.finding.endswith(UNEXPLAINED)
    assert "No known bug" not in warning.hint
    assert "not tried, because one prediction takes 3.0 s" in warning.hint


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "action statistics in another joint order",
        "state statistics in another joint order",
        "action scale halved",
        "elbow's state 30° off",
        "random backbone",
        "16 px blown up",
    ],
)
def test_bugs_of_statistics_zeros_and_vision_are_named(name, tmp_path):
    (plant,) = [plant for plant in PLANTS if plant.name == name]
    config, setup = set_up_planted(plant, tmp_path)
    with closing(setup.env):
        verdict, said = judge(plant, run_checks(config, setup), "")
    assert verdict == "named", said


def test_the_detail_of_pictures_shows_whether_they_were_blown_up():
    """The measured detail distinguishes a sharp image from an enlarged one.

    If the contrast falls with the square of the frequency, each doubling of the frequency leaves
    half of it. An enlarged image keeps far less.
    """
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    noise = np.fft.fft2(default_rng(0).normal(size=(256, 256)))
    scene = np.fft.ifft2(noise / np.maximum(frequency, 1 / 256)).real
    scene = np.interp(scene, (scene.min(), scene.max()), (0, 255))
    scene = np.uint8(scene)[..., None].repeat(3, axis=-1)
    small = cv2.resize(scene, (64, 64), interpolation=cv2.INTER_AREA)
    blown_up = cv2.resize(small, (256, 256))
    assert all(0.3 < share < 0.7 for share in measure_detail(scene[None]))
    finer, finest = measure_detail(blown_up[None])
    assert finer < 0.16
    assert finest < 0.1


@pytest.mark.parametrize(
    ("row", "check"),
    [(0, "plan"), (-1, "plans")],
)
def test_plans_that_are_not_numbers_are_an_error(act, row, check):
    """The NaN is in the first plan in one case, and only in a later plan in the other."""

    def spoil(plans, _):
        if row == 0 or len(plans) > 1:
            plans[row, 2, 3] = np.nan
        return plans

    found = findings_of(planned(act, spoil))
    errors = [finding.check for finding in found.values() if finding.level == "error"]
    assert any(check in name for name in errors), errors


def test_the_disagreement_and_where_it_lies():
    actions = default_rng(0).normal(size=(28, 2))
    memories = tuple(EpisodeMemory(deque()) for _ in range(6))
    reference = Reference(memories, tuple(range(0, 24, 4)), actions, 24, True)
    plans = reference.future(4).copy()
    assert compute_disagreement(plans, reference) == 0
    assert compute_disagreement(plans - 0.5 * reference.scale, reference) == pytest.approx(0.5)
    plans[4:, 2:, 1] += 3 * reference.scale[1]
    assert find_worst_moment(plans, reference) == (4, pytest.approx(0.75))
    assert describe_disagreement(plans, reference, ("lift", "turn")) == (
        "by joint most in 'turn' (0.50) and 'lift' (0.00); "
        "most in the last third of the episode (0.75); "
        "most in the far half of the chunk (0.50)"
    )


@pytest.fixture
def words_act(act):
    """Yield the setup of the shipped ACT in an environment of two instructions."""
    sizes = act.policy.spec.image_sizes
    with closing(make_env("so101/pick_place_words", image_sizes=sizes)) as env:
        yield in_env(act, env)


def test_a_policy_that_does_what_another_instruction_says_is_named(words_act):
    """The policy is an oracle that receives an exchanged instruction.

    It follows the expert's plan only when it is given the other instruction.
    """
    env = words_act.env
    reference = CheckContext(ACT, words_act, None).reference
    told = reference.memories[0].present.instruction
    other = env.spec.opposite_instruction(told)
    plan_of = plans_by_state(words_act, reference)

    def plan(observation):
        still = np.tile(observation.state, (words_act.policy.spec.chunk_size, 1))
        if observation.instruction == other:
            return plan_of.get(observation.state.tobytes(), still)
        return still

    spec = replace(words_act.policy.spec, reads_instruction=True)
    setup = wrapped(
        words_act,
        predict=lambda memories, rngs: chunk_of(plan, memories),
        spec=spec,
    )
    config = replace_flags(ACT, env=env.spec.name)
    found = named(
        findings_of(setup, config),
        "instruction",
        f"told {told!r} and does what {other!r} says",
    )
    assert found.level == "error"
    mended = findings_of(setup, replace_flags(config, wrong_instruction=True))
    assert not any("does what" in finding for _, finding in mended)


def test_a_policy_that_does_not_hear_its_instruction_is_named(words_act):
    """ACT does not read the instruction, and here it is said to."""
    spec = replace(words_act.policy.spec, reads_instruction=True)
    deaf = wrapped(words_act, spec=spec)
    context = CheckContext(replace_flags(ACT, env=words_act.env.spec.name), deaf, None)
    reference = context.reference
    plans = context.reference_plans
    uses = measure_inputs(context, reference, plans)
    found = list(check_inputs(context, reference, plans, uses, {}))
    assert [(finding.check, finding.level) for finding in found] == [
        ("inputs", "fine"),
        ("instruction", "warning"),
    ]
    assert "hardly depend on the instruction" in found[1].finding
    assert "move by at most 0.00 standard deviations" in found[1].evidence


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("images rotated by 180°", marks=pytest.mark.exhaustive),
        "red and blue exchanged",
        pytest.param("a tokenizer of as many words", marks=pytest.mark.exhaustive),
    ],
)
def test_bugs_that_smolvla_shows_at_few_moments_are_named(name, tmp_path):
    (plant,) = [plant for plant in plants_of("smolvla") if plant.name == name]
    config, setup = set_up_planted(plant, tmp_path, "smolvla")
    with closing(setup.env):
        verdict, said = judge(plant, run_checks(config, setup), "")
    assert verdict == "named", said
