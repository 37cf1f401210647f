"""Tests of series.

A series is declared in one place and computed in another. The code that carries it does not know
its name.
"""

import base64
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from eval.branches import Overrides
from eval.declared_series import POLICY_LATENCY, declare, declared_series
from eval.drivers import run_episode
from eval.episode_row import make_row
from eval.plan_change import compute_plan_change
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.run import Run
from eval.run_folder import RunFolder, arrays_path
from eval.series import Series, row_at
from policies.action_chunk import ActionChunk
from policies.policy import PolicySpec, make_memory
from sim.errors import WhiskerError
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

    def __init__(self, env, signal="sureness"):
        self.spec = PolicySpec(
            "shifting",
            {},
            6,
            6,
            6,
            6,
            6,
            stochastic=False,
        )
        env.reset(0)
        self._home = env.state()
        self._signal = signal
        self._span = env.spec.action.high[0] - env.spec.action.low[0]

    def reset(self):
        return make_memory()

    def predict(self, memories, rngs):
        (memory,) = memories
        n = memory.recurrent_state = (memory.recurrent_state or 0) + 1
        plan = np.repeat(self._home[None], 6, axis=0).astype(np.float32)
        plan[:, 0] += 0.1 * self._span * n
        return ActionChunk(
            plan[None], signals={self._signal: np.array([n / 8])} if self._signal else {}
        )

    def sample(self, memory, rngs):
        raise NotImplementedError


@pytest.fixture
def declared_here(monkeypatch):
    """Declare one more series for each axis.

    One comes with the plan, and two are computed.
    """
    monkeypatch.setattr(
        "eval.declared_series._DECLARED", {series.name: series for series in declared_series()}
    )
    declare(Series("sureness", "nat", "prediction", "How sure the policy is."))
    declare(
        Series(
            "first_target_deg",
            "deg",
            "step",
            "The first action.",
            compute=lambda now: now.actions[-1][0],
        )
    )
    declare(
        Series(
            "reach_m", "m", "moment", "Distance from the base.", compute=lambda now: reach(now.env)
        )
    )


def reach(env):
    return np.linalg.norm(env.ee_pos_world())


@pytest.fixture
def env(blind_env):
    blind_env.reset(0)
    return blind_env


@pytest.fixture
def recorded(env, declared_here, tmp_path):
    """Return the run of one episode, and its record."""
    record = run_episode(
        env,
        ShiftingPolicy(env),
        1,
        EpisodeRecorder(),
        SETTINGS,
    )
    with closing(RunFolder.create(tmp_path, describe_run(env))) as folder:
        folder.append(record, make_row(record))
    return Run.open(folder.path), record


def decode(array):
    return np.frombuffer(
        base64.b64decode(array["base64"]),
        array["dtype"],
    ).reshape(array["shape"])


def joined(parts):
    """Return the concatenated values of all parts by the name of the series."""
    names = [each["name"] for part in parts for each in part["series"]]
    told = [(each["name"], decode(each["values"])) for part in parts for each in part["series"]]
    return {
        name: np.concatenate([values for other, values in told if other == name]) for name in names
    }


def test_a_declared_series_is_recorded_and_comes_back_from_the_run_folder(recorded):
    run, record = recorded
    loaded = run.load_series(run.rows[0])
    arrays = record.arrays
    assert_same_arrays(run.load_arrays(run.rows[0]), arrays)
    assert set(loaded) == {series.name for series in declared_series()}
    np.testing.assert_array_equal(loaded["sureness"].values, [1 / 8, 2 / 8, 3 / 8])
    np.testing.assert_array_equal(
        loaded["first_target_deg"].values,
        arrays.action[:, 0],
    )
    np.testing.assert_array_equal(
        loaded["reach_m"].values, [np.linalg.norm(at) for at in arrays.ee_pos_world]
    )
    reach = loaded["reach_m"].series
    assert (reach.unit, reach.axis, reach.meaning, reach.title) == (
        "m",
        "moment",
        "Distance from the base.",
        "reach",
    )
    assert (
        loaded["sureness"].series.is_reproducible
        and not loaded[POLICY_LATENCY].series.is_reproducible
    )
    with np.load(
        run.path / arrays_path(run.rows[0]),
        allow_pickle=False,
    ) as stored:
        np.testing.assert_array_equal(stored["reach_m"], loaded["reach_m"].values)


def test_a_declared_series_arrives_on_the_served_the_exported_and_the_live_page(recorded, env):
    run, record = recorded
    expected = {name: each.values.astype(np.float32) for name, each in record.arrays.series.items()}
    with closing(run.open_env("pick_place", {})) as other:
        served = ReplayedEpisode.load(other, run, run.rows[0]).outline()
        exported = load_episode(other, run, run.rows[0])
        live = LiveEpisode.begin(
            LiveContext(env, other, ShiftingPolicy(env), SETTINGS),
            1,
            "live",
        )
        while not live.is_over:
            live.advance()
    assert not live.row["error"]
    assert_same_arrays(live.record.arrays, record.arrays)
    for parts in (served["parts"], exported["parts"], live.parts):
        told = joined(parts)
        assert told.keys() == expected.keys()
        for name, values in told.items():
            if parts is not live.parts or name != POLICY_LATENCY:
                np.testing.assert_array_equal(values, expected[name], name)
    (described,) = [each for each in served["parts"][0]["series"] if each["name"] == "sureness"]
    assert (described["title"], described["unit"], described["axis"]) == (
        "sureness",
        "nat",
        "prediction",
    )
    # A part contains only the new values.
    assert all(len(decode(each["values"])) == 1 for part in live.parts for each in part["series"])


def test_a_branch_inherits_the_rows_before_it_left(recorded, env):
    run, _ = recorded
    with closing(run.open_env("pick_place", {})) as other:
        live = LiveEpisode.begin(
            LiveContext(env, other, ShiftingPolicy(env), SETTINGS),
            1,
            "live",
        )
        live.header = {
            "key": "live",
            "instruction": "",
            "n_action_steps": 4,
        }
        while not live.is_over:
            live.advance()
        branch = live.branch(1, Overrides(), 1)
        branch.enter()
        while not branch.is_over:
            branch.advance()
    assert not branch.row["error"]
    latency = POLICY_LATENCY
    kept = live.record.arrays.series[latency].values
    own = branch.record.arrays.series[latency].values
    assert own[0] == kept[0] and len(own) == len(kept) == 3
    for name, values in joined(branch.parts).items():
        np.testing.assert_array_equal(
            values, branch.record.arrays.series[name].values.astype(np.float32), name
        )


def test_films_and_the_report_say_a_series_too(recorded):
    run, record = recorded
    said = describe_series(record.arrays, 5)
    assert (
        "sureness 0.25 nat" in said
        and "plan change 0.0408 share of range" in said
        and "policy latency" in said
    )
    facts = {fact.name: fact.value for fact in describe_facts(run)["Episodes"]}
    assert facts["sureness"] == "0.25 nat (median), 0.362 nat (95th percentile), 3 predictions"
    latencies = record.arrays.series[POLICY_LATENCY].values
    assert facts["policy latency"].startswith(f"{np.median(latencies):.3g} ms (median), ")


def test_a_file_from_before_has_no_series_and_still_opens(recorded):
    run, record = recorded
    file = run.path / arrays_path(run.rows[0])
    with np.load(file) as stored:
        older = {
            name: stored[name]
            for name in stored.files
            if name not in {"series", *record.arrays.series}
        }
    np.savez(file, **older)
    assert run.load_arrays(run.rows[0]).series == run.load_series(run.rows[0]) == {}
    assert_same_arrays(
        run.load_arrays(run.rows[0]),
        replace(record.arrays, series={}),
    )
    facts = {fact.name: fact.value for fact in describe_facts(run)["Episodes"]}
    assert facts["policy latency"] == facts["plan change"] == "not recorded"


def test_the_latency_is_that_of_the_executed_plan(env, monkeypatch):
    """Only the policy moves the clock.

    A prediction takes 12.5 ms, and its alternatives take a second.
    """
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr(
        "eval.drivers.time",
        SimpleNamespace(perf_counter=lambda: clock.now_s),
    )

    class Slow(ShiftingPolicy):
        def predict(self, memories, rngs):
            clock.now_s += 0.0125
            return super().predict(memories, rngs)

        def sample(self, memory, rngs):
            clock.now_s += 1
            return super().predict([memory.copy()], rngs)

    settings = replace(SETTINGS, n_samples=2)
    record = run_episode(
        env,
        Slow(env, signal=None),
        0,
        EpisodeRecorder(),
        settings,
    )
    np.testing.assert_allclose(
        record.arrays.series[POLICY_LATENCY].values,
        12.5,
    )


def test_a_signal_that_nobody_declared_is_refused(env):
    record = run_episode(
        env,
        ShiftingPolicy(env, signal="mood"),
        0,
        EpisodeRecorder(),
        SETTINGS,
    )
    assert (
        "signals of a plan: mood" in record.error and "eval.declared_series.declare" in record.error
    )


def test_two_series_of_one_name_are_refused(declared_here):
    with pytest.raises(WhiskerError, match="series 'sureness'"):
        declare(Series("sureness", "", "step", "Another."))


def test_the_plan_change_is_nan_for_the_first_plan_and_a_share_of_the_range_after(env):
    """A change of one joint in six by a tenth of its range is √(0.1² / 6)."""
    record = run_episode(
        env,
        ShiftingPolicy(env, signal=None),
        0,
        EpisodeRecorder(),
        SETTINGS,
    )
    expected = [np.nan, 0.1 / np.sqrt(6), 0.1 / np.sqrt(6)]
    np.testing.assert_allclose(
        record.arrays.series["plan_change"].values,
        expected,
        rtol=1e-5,
    )
    record = run_episode(
        env,
        ShiftingPolicy(env, signal=None),
        0,
        EpisodeRecorder(),
        replace(SETTINGS, n_action_steps=6),
    )
    assert np.isnan(record.arrays.series["plan_change"].values).all()


def test_the_plan_change_compares_the_same_control_steps():
    """A plan that continues as before has not changed.

    Each further step of delay changes it by one step of the ramp.
    """
    ramp = np.arange(20, dtype=np.float32)[:, None] * np.float32([1, -2])
    span = np.array([10.0, 20.0])
    for n_since in (0, 3, 9):
        assert (
            compute_plan_change(
                ramp[:10],
                ramp[n_since : n_since + 10],
                n_since,
                span,
            )
            == 0
        )
        np.testing.assert_allclose(
            compute_plan_change(
                ramp[:10],
                ramp[n_since + 2 :],
                n_since,
                span,
            ),
            0.2,
        )
    assert np.isnan(
        compute_plan_change(
            ramp[:10],
            ramp[10:],
            10,
            span,
        )
    )
    # A dimension without bounds is not counted.
    assert (
        compute_plan_change(
            ramp[:10],
            ramp[:10] + np.float32([0, 5]),
            0,
            np.array([10.0, np.inf]),
        )
        == 0
    )
    assert np.isnan(
        compute_plan_change(
            ramp[:10],
            ramp[:10],
            0,
            np.array([np.inf, 0.0]),
        )
    )


@pytest.mark.parametrize(
    ("axis", "rows"),
    [
        ("moment", [0, 3, 4]),
        ("step", [0, 3, 4]),
        ("prediction", [-1, 0, 1]),
    ],
    ids=str,
)
def test_the_row_in_force(axis, rows):
    assert [row_at(axis, step, [2, 4]) for step in (0, 3, 4)] == rows
