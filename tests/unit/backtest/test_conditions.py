"""Delays, missing answers and labels, drift."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ensemble.cli.backtest.conditions import delay, drifted, missing, scheduled
from stream_ensemble.cli.backtest.recording import Raw, checked
from stream_ensemble.core.learning.schedule import NEVER
from tests.unit.backtest.recordings import MEMBERS, ROWS, classes

ARRAYS = classes()
RECORDING, LOSS = checked(Raw(ARRAYS["P"], ARRAYS["y"], MEMBERS), "log", None)


def test_a_fixed_delay_counts_requests() -> None:
    assert delay("0").arrivals(3, 0).tolist() == [1, 2, 3]
    assert delay("100").arrivals(3, 0).tolist() == [101, 102, 103]
    assert delay("100").on_their_way == 101


def test_a_geometric_delay_has_that_mean_and_may_be_nothing() -> None:
    late = delay("geometric:100").arrivals(200_000, 0) - np.arange(200_000) - 1
    assert late.min() == 0
    assert late.mean() == pytest.approx(100, rel=0.02)
    assert late.std() == pytest.approx(100.5, rel=0.02)


def test_bursts_come_together() -> None:
    assert delay("bursts:2").arrivals(5, 0).tolist() == [2, 2, 4, 4, 6]


def test_missing_answers_are_those_of_the_definition() -> None:
    spoiled = missing(RECORDING, 0.3, 2)
    expected = np.random.default_rng(2).random((ROWS, 3)) > 0.3
    expected[~expected.any(axis=1), 0] = True
    assert (spoiled.awake == expected).all()
    assert (spoiled.outputs[~expected] == 0).all()


def test_missing_wakes_nobody_who_had_not_answered() -> None:
    P = ARRAYS["P"].copy()
    P[:, 0] = np.nan
    P[7] = np.nan
    recording, _ = checked(Raw(P, ARRAYS["y"], MEMBERS), "log", None)
    spoiled = missing(recording, 0.9, 0)
    assert not spoiled.awake[:, 0].any()
    assert spoiled.awake.any(axis=1).tolist() == [row != 7 for row in range(ROWS)]


def test_drift_swaps_the_best_with_the_worst_from_the_middle_on() -> None:
    after = drifted(RECORDING, LOSS)
    half = ROWS // 2
    assert (after.outputs[:half] == RECORDING.outputs[:half]).all()
    # a is the best, c the worst, b between them.
    assert (after.outputs[half:] == RECORDING.outputs[half:, [2, 1, 0]]).all()


def test_some_labels_never_come_and_none_for_what_nobody_answered() -> None:
    P = ARRAYS["P"].copy()
    P[7] = np.nan
    recording, _ = checked(Raw(P, ARRAYS["y"], MEMBERS), "log", None)
    all_come = scheduled(recording, delay("0"), 1.0, 0).arrival
    assert np.flatnonzero(all_come == NEVER).tolist() == [7]
    assert (scheduled(recording, delay("0"), 0.0, 0).arrival == NEVER).all()
    some = scheduled(recording, delay("0"), 0.5, 0).arrival
    assert 10 < (some == NEVER).sum() < 50
