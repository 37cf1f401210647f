"""Tests of series.

A series is declared in one place and computed in another. The code that carries it does not know
its name.
"""

import base64
from collections import defaultdict
from contextlib import closing
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from eval.branches import Overrides
from eval.declared_series import POLICY_LATENCY, declare, declared_series
from eval.episode_row import make_row
from eval.plan_change import compute_plan_change
from eval.rollout import RolloutSettings
from eval.run import Run
from eval.run_folder import RunFolder, arrays_path
from eval.series import Series, row_at
from policies.action_chunk import ActionChunk
from policies.policy import PolicySpec, make_memory
from sim.errors import WhiskerError
from tests.recordings import record_episode
from tests.runs import assert_same_arrays, describe_run
from viz.episode_film import describe_series
from viz.live_episode import LiveContext, LiveEpisode
from viz.page import load_episode
from viz.replayed_episode import ReplayedEpisode
from viz.report.provenance import describe_facts

SETTINGS = RolloutSettings(n_action_steps=4, max_steps=10)


class ShiftingPolicy:
    """A policy that shifts each plan by another tenth of the first joint's range.

    It also reports how sure it is.
    """

    spec = PolicySpec(
        "shifting",
        {},
        6,
        6,
        6,
        6,
        6,
        stochastic=False,
    )

    def __init__(self, env, signal="sureness"):
        env.reset(0)
        self._home = env.state()
        self._signal = signal
        action = env.spec.action
        self._shift = 0.1 * (action.high[0] - action.low[0])

    def reset(self):
        return make_memory()

    def predict(self, memories, rngs):
        (memory,) = memories
        n = memory.recurrent_state = (memory.recurrent_state or 0) + 1
        plan = np.tile(self._home, (1, 6, 1))
        plan[..., 0] += self._shift * n
        signals = {self._signal: np.array([n / 8])} if self._signal else {}
        return ActionChunk(plan, signals=signals)

    def sample(self, memory, rngs):
        raise NotImplementedError


SURENESS = Series("sureness", "nat", "prediction", "How sure the policy is.")
FIRST_TARGET = Series(
    "first_target_deg",
    "deg",
    "step",
    "The first action.",
    compute=lambda now: now.actions[-1][0],
)
REACH = Series(
    "reach_m",
    "m",
    "moment",
    "Distance from the base.",
    compute=lambda now: np.linalg.norm(now.env.ee_pos_world()),
)


@pytest.fixture
def declared_here(monkeypatch):
    """Declare one more series for each axis.

    One comes with the plan, and two are computed.
    """
    declared = {series.name: series for series in declared_series()}
    monkeypatch.setattr("eval.declared_series._DECLARED", declared)
    for series in (SURENESS, FIRST_TARGET, REACH):
        declare(series)


@pytest.fixture
def env(blind_env):
    blind_env.reset(0)
    return blind_env


def record_shifting(env, policy, **settings):
    return record_episode(
        env,
        policy,
        1,
        **{"n_action_steps": 4, "max_steps": 10} | settings,
    )


@pytest.fixture
def record(env, declared_here):
    return record_shifting(env, ShiftingPolicy(env))


@pytest.fixture
def run(env, record, tmp_path):
    """Return the run of one episode, which is `record`."""
    with closing(RunFolder.create(tmp_path, describe_run(env))) as folder:
        folder.append(record, make_row(record))
    return Run.open(folder.path)


@pytest.fixture
def other(run):
    """Yield the second environment that viewers open."""
    with closing(run.open_env("pick_place", {})) as env:
        yield env


@pytest.fixture
def live(env, other):
    """Return a live episode of the same policy that has been played to its end."""
    context = LiveContext(env, other, ShiftingPolicy(env), SETTINGS)
    live = LiveEpisode.begin(context, 1, "live")
    play(live)
    return live


def play(episode):
    while not episode.is_over:
        episode.advance()
    assert not episode.row["error"]


def decode(array):
    values = np.frombuffer(base64.b64decode(array["base64"]), array["dtype"])
    return values.reshape(array["shape"])


def joined(parts):
    """Return the concatenated values of all parts by the name of the series."""
    told = defaultdict(list)
    for part in parts:
        for each in part["series"]:
            told[each["name"]].extend(decode(each["values"]))
    return told


def test_a_declared_series_is_recorded_and_comes_back_from_the_run_folder(run, record):
    (row,) = run.rows
    arrays = record.arrays
    assert_same_arrays(run.load_arrays(row), arrays)
    loaded = run.load_series(row)
    assert set(loaded) == {series.name for series in declared_series()}
    assert_array_equal(
        loaded["sureness"].values,
        [
            1 / 8,
            2 / 8,
            3 / 8,
        ],
    )
    assert_array_equal(loaded["first_target_deg"].values, arrays.action[:, 0])
    reaches = loaded["reach_m"].values
    assert_array_equal(reaches, [np.linalg.norm(at) for at in arrays.ee_pos_world])
    assert loaded["reach_m"].series == replace(REACH, compute=None)
    assert loaded["reach_m"].series.title == "reach"
    assert loaded["sureness"].series.is_reproducible
    assert not loaded[POLICY_LATENCY].series.is_reproducible
    with np.load(run.path / arrays_path(row)) as stored:
        assert_array_equal(stored["reach_m"], reaches)


def test_a_declared_series_arrives_on_the_served_the_exported_and_the_live_page(
    run, record, other, live
):
    assert_same_arrays(live.record.arrays, record.arrays)
    (row,) = run.rows
    served = ReplayedEpisode.load(other, run, row).outline()
    exported = load_episode(other, run, row)
    recorded = record.arrays.series
    for parts in (served["parts"], exported["parts"], live.parts):
        told = joined(parts)
        assert told.keys() == recorded.keys()
        for name, values in told.items():
            if parts is not live.parts or name != POLICY_LATENCY:
                assert_array_equal(values, np.float32(recorded[name].values), name)
    (described,) = [each for each in served["parts"][0]["series"] if each["name"] == "sureness"]
    assert described["title"] == "sureness"
    assert described["unit"] == "nat"
    assert described["axis"] == "prediction"
    # A part contains only the new values.
    for part in live.parts:
        assert all(len(decode(each["values"])) == 1 for each in part["series"])


def test_a_branch_inherits_the_rows_before_it_left(live):
    live.header = {"key": "live", "instruction": "", "n_action_steps": 4}
    branch = live.branch(1, Overrides(), 1)
    branch.enter()
    play(branch)
    kept = live.record.arrays.series[POLICY_LATENCY].values
    series = branch.record.arrays.series
    own = series[POLICY_LATENCY].values
    assert own[0] == kept[0]
    assert len(own) == len(kept) == 3
    for name, values in joined(branch.parts).items():
        assert_array_equal(values, np.float32(series[name].values), name)


def facts_of(run):
    return {fact.name: fact.value for fact in describe_facts(run)["Episodes"]}


def test_films_and_the_report_say_a_series_too(run, record):
    said = describe_series(record.arrays, 5)
    assert "sureness 0.25 nat" in said
    assert "plan change 0.0408 share of range" in said
    assert "policy latency" in said
    facts = facts_of(run)
    assert facts["sureness"] == "0.25 nat (median), 0.362 nat (95th percentile), 3 predictions"
    median_ms = np.median(record.arrays.series[POLICY_LATENCY].values)
    assert facts["policy latency"].startswith(f"{median_ms:.3g} ms (median), ")


def test_a_file_from_before_has_no_series_and_still_opens(run, record):
    (row,) = run.rows
    file = run.path / arrays_path(row)
    older = dict(np.load(file))
    for name in ("series", *record.arrays.series):
        del older[name]
    np.savez(file, **older)
    assert run.load_series(row) == {}
    assert_same_arrays(run.load_arrays(row), replace(record.arrays, series={}))
    facts = facts_of(run)
    assert facts["policy latency"] == facts["plan change"] == "not recorded"


def test_the_latency_is_that_of_the_executed_plan(env, monkeypatch):
    """Only the policy moves the clock.

    A prediction takes 12.5 ms, and its alternatives take a second.
    """
    clock = Mock(**{"perf_counter.return_value": 0.0})
    monkeypatch.setattr("eval.drivers.time", clock)

    class Slow(ShiftingPolicy):
        def predict(self, memories, rngs):
            clock.perf_counter.return_value += 0.0125
            return super().predict(memories, rngs)

        def sample(self, memory, rngs):
            clock.perf_counter.return_value += 1
            return super().predict([memory.copy()], rngs)

    record = record_shifting(
        env,
        Slow(env, signal=None),
        n_samples=2,
    )
    assert_allclose(record.arrays.series[POLICY_LATENCY].values, 12.5)


def test_a_signal_that_nobody_declared_is_refused(env):
    error = record_shifting(env, ShiftingPolicy(env, signal="mood")).error
    assert "signals of a plan: mood" in error
    assert "eval.declared_series.declare" in error


def test_two_series_of_one_name_are_refused(declared_here):
    with pytest.raises(WhiskerError, match="series 'sureness'"):
        declare(replace(SURENESS, axis="step"))


def plan_changes(env, n_action_steps):
    record = record_shifting(
        env,
        ShiftingPolicy(env, signal=None),
        n_action_steps=n_action_steps,
    )
    return record.arrays.series["plan_change"].values


def test_the_plan_change_is_nan_for_the_first_plan_and_a_share_of_the_range_after(env):
    """A change of one joint in six by a tenth of its range is √(0.1² / 6)."""
    change = 0.1 / np.sqrt(6)
    assert_allclose(
        plan_changes(env, 4),
        [np.nan, change, change],
        rtol=1e-5,
    )


def test_plans_that_do_not_overlap_have_no_change(env):
    assert np.isnan(plan_changes(env, 6)).all()


RAMP = np.outer(
    np.arange(20),
    [1, -2],
).astype(np.float32)


def change_of(later, n_since, span=(10.0, 20.0)):
    return compute_plan_change(
        RAMP[:10],
        later,
        n_since,
        np.array(span),
    )


@pytest.mark.parametrize("n_since", [0, 3, 9])
def test_the_plan_change_compares_the_same_control_steps(n_since):
    """A plan that continues as before has not changed.

    Each further step of delay changes it by one step of the ramp.
    """
    assert change_of(RAMP[n_since : n_since + 10], n_since) == 0
    assert_allclose(change_of(RAMP[n_since + 2 :], n_since), 0.2)


def test_without_a_common_step_there_is_no_plan_change():
    assert np.isnan(change_of(RAMP[10:], 10))


def test_a_dimension_without_bounds_is_not_counted_in_the_plan_change():
    later = RAMP[:10] + np.float32([0, 5])
    assert (
        change_of(
            later,
            0,
            span=(10.0, np.inf),
        )
        == 0
    )
    assert np.isnan(
        change_of(
            RAMP[:10],
            0,
            span=(np.inf, 0.0),
        )
    )


@pytest.mark.parametrize(
    ("axis", "rows"),
    [
        ("moment", [0, 3, 4]),
        ("step", [0, 3, 4]),
        ("prediction", [-1, 0, 1]),
    ],
)
def test_the_row_in_force(axis, rows):
    assert [row_at(axis, step, [2, 4]) for step in (0, 3, 4)] == rows
