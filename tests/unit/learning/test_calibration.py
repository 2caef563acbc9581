"""Temperatures from sums of losses, and what they make of fused outputs."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ensemble.core.evaluation.classification import calibration_error, log_loss
from stream_ensemble.core.learning.backtest import Stream
from stream_ensemble.core.learning.calibrated_play import play_calibrated
from stream_ensemble.core.learning.calibration import (
    GRID,
    KNOTS,
    LOSSES,
    Calibrated,
    by_name,
    calibrated,
    calibrates,
    calibration_of,
    losses,
    temperatures,
)
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.guardrail import WithLosses
from stream_ensemble.core.learning.magnitudes import WithMagnitudes
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.core.learning.schedule import delayed
from stream_ensemble.messages import Calibration

RNG = np.random.default_rng(3)
EVEN = Calibration(confidence=(1.0,) * 5, rest=1.0)
UNEVEN = Calibration(confidence=(2.0, 0.5, 0.7, 1.4, 3.0), rest=0.6)
#: One-hot, even, nearly sure, two classes alike, not quite normalised.
HOSTILE = np.array(
    [
        [1.0, 0.0, 0.0],
        [1 / 3, 1 / 3, 1 / 3],
        [1 - 2e-15, 1e-15, 1e-15],
        [0.45, 0.1, 0.45],
        [0.0, 1e-300, 1.0],
        [0.5, 0.3, 0.2005],
        [0.34, 0.33, 0.33],
    ]
)


def sharpened(p: np.ndarray, sharpness: float) -> np.ndarray:
    q: np.ndarray = p**sharpness
    return q / q.sum(axis=1, keepdims=True)


def drawn(p: np.ndarray) -> np.ndarray:
    labels: np.ndarray = (RNG.random((len(p), 1)) > p.cumsum(axis=1)).sum(axis=1)
    return np.minimum(labels, p.shape[1] - 1)


def by_hand(p: np.ndarray, by: Calibration) -> np.ndarray:
    """One output, straight from the definition."""
    top = int(p.argmax())
    odds = np.log(p[top] / (1 - p[top]))
    heat = float(np.exp(np.interp(odds, KNOTS, np.log(by.confidence))))
    confidence = sharpened(p[None], 1 / heat)[0, top]
    rest = np.delete(p, top) ** (1 / by.rest)
    return np.insert(rest / rest.sum() * (1 - confidence), top, confidence)


@pytest.mark.parametrize("classes", [2, 3, 26])
def test_as_defined(classes: int) -> None:
    p = RNG.dirichlet(np.full(classes, 2 / classes), 200)
    found = calibrated(p, UNEVEN)
    expected = np.array([by_hand(row, UNEVEN) for row in p])
    ahead = expected.argmax(axis=1) == p.argmax(axis=1)
    assert ahead.mean() > 0.7
    np.testing.assert_allclose(found[ahead], expected[ahead], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("by", [EVEN, UNEVEN])
def test_the_class_answered_stays_the_same_and_it_stays_a_distribution(by: Calibration) -> None:
    for p in (HOSTILE, RNG.dirichlet(np.full(3, 0.3), 500), RNG.dirichlet(np.full(40, 9.0), 500)):
        found = calibrated(p, by)
        assert np.isfinite(found).all()
        assert (found >= 0).all()
        np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-12)
        assert (found.argmax(axis=1) == p.argmax(axis=1)).all()


def test_temperatures_of_one_leave_it_as_it_is_and_zeros_stay_zeros() -> None:
    np.testing.assert_allclose(calibrated(HOSTILE, EVEN), HOSTILE / HOSTILE.sum(1, keepdims=True), atol=2e-12)
    assert not calibrated(np.zeros((3, 4)), UNEVEN).any()
    assert calibrated(np.zeros((0, 4)), UNEVEN).shape == (0, 4)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 16, 65])
@pytest.mark.parametrize("classes", [2, 3, 26])
def test_a_row_is_calibrated_the_same_to_the_bit_whatever_stands_beside_it(rows: int, classes: int) -> None:
    p = RNG.dirichlet(np.ones(classes), rows)
    whole = calibrated(p, UNEVEN)
    for r in range(rows):
        np.testing.assert_array_equal(calibrated(p[r : r + 1], UNEVEN)[0], whole[r])


@pytest.mark.parametrize("classes", [2, 3, 26])
def test_both_losses_together_are_the_log_loss_at_every_temperature(classes: int) -> None:
    p = RNG.dirichlet(np.ones(classes), 100)
    labels = RNG.integers(0, classes, 100)
    found = losses(p, labels).reshape(100, len(KNOTS) + 1, len(GRID)).sum(axis=1)
    for i, log_temperature in enumerate(GRID):
        q = sharpened(p, float(np.exp(-log_temperature)))
        np.testing.assert_allclose(found[:, i], -np.log(q[np.arange(100), labels]), rtol=1e-9, atol=1e-12)


def test_losses_are_finite_whatever_was_issued() -> None:
    for truth in range(3):
        assert np.isfinite(losses(HOSTILE, np.full(len(HOSTILE), truth))).all()
    assert not losses(np.zeros((1, 3)), np.array([1])).any()


def test_a_loss_is_shared_by_the_knots_around_its_log_odds() -> None:
    confidence = 1 / (1 + np.exp(-0.5))
    row = losses(np.array([[confidence, 1 - confidence]]), np.array([0])).reshape(6, len(GRID))
    assert row.any(axis=1).tolist() == [False, True, True, False, False, False]
    np.testing.assert_allclose(row[1] / (row[1] + row[2]), 0.75, rtol=1e-9)


def test_of_nothing_all_temperatures_are_one() -> None:
    nothing = np.zeros(6 * len(GRID))
    assert temperatures(nothing).tolist() == [1.0] * 6
    assert temperatures(np.stack([nothing, nothing])).tolist() == [[1.0] * 6] * 2
    assert calibration_of(Contribution(("a",))) is None
    assert calibration_of(Contribution(("a",), {LOSSES: nothing})) == EVEN


@pytest.mark.parametrize("sharpness", [0.4, 0.7, 1.0, 1.6, 2.5])
def test_the_temperature_that_labels_were_drawn_with_is_found(sharpness: float) -> None:
    p = RNG.dirichlet(np.full(5, 0.8), 20_000)
    labels = drawn(sharpened(p, sharpness))
    found = by_name(of_sums(losses(p, labels).sum(axis=0)))
    assert found["rest"] == pytest.approx(1 / sharpness, rel=0.06)
    assert found["0"] == pytest.approx(1 / sharpness, rel=0.06)
    assert found["2"] == pytest.approx(1 / sharpness, rel=0.1)


def of_sums(sums: np.ndarray) -> Calibration:
    found = calibration_of(Contribution(("a",), {LOSSES: sums}))
    assert found is not None
    return found


def test_it_is_the_lowest_point_of_losses_and_pull_as_a_search_on_a_fine_grid_finds_it() -> None:
    p = RNG.dirichlet(np.full(4, 0.7), 3000)
    labels = drawn(sharpened(p, 1.5))
    fine = np.linspace(GRID[0], GRID[-1], 2001)
    top = p.argmax(axis=1)
    wrong = labels != top
    others = p[wrong].copy()
    others[np.arange(len(others)), top[wrong]] = 0.0
    sums = [
        -np.log(sharpened(others, float(np.exp(-t)))[np.arange(len(others)), labels[wrong]]).sum()
        for t in fine
    ]
    lowest = np.exp(fine[np.argmin(np.array(sums) + 25.0 * fine**2)])
    assert of_sums(losses(p, labels).sum(axis=0)).rest == pytest.approx(lowest, rel=1e-2)


def test_few_labels_move_little_and_endless_ones_stay_on_the_grid() -> None:
    sure = np.tile([0.9, 0.1], (3, 1))
    wrong = losses(sure, np.ones(3, np.int64)).sum(axis=0)
    few = by_name(of_sums(wrong))
    assert 1.0 < few["2"] < 1.25
    for sums in (wrong, losses(sure, np.zeros(3, np.int64)).sum(axis=0)):
        found = by_name(of_sums(1e9 * sums))
        assert 0.25 - 1e-12 <= min(found.values()) <= max(found.values()) <= 4.0 + 1e-12


def test_an_underconfident_stream_becomes_calibrated_and_loses_less() -> None:
    p = RNG.dirichlet(np.full(6, 0.5), 6000)
    labels = drawn(sharpened(p, 2.0))
    stream = Stream(p[:, None], np.ones((6000, 1), np.bool_), labels, delayed(6000, 50))
    played = play_calibrated(stream, p)
    assert calibration_error(played.fused, labels) < 0.25 * calibration_error(p, labels)
    assert log_loss(played.fused, labels) < log_loss(p, labels) - 0.1
    assert by_name(played.last)["0"] == pytest.approx(0.5, rel=0.1)


def test_it_is_found_beneath_whatever_else_is_kept() -> None:
    plain = MLPoly(("a", "b"))
    inner = Calibrated(plain)
    for algorithm in (
        inner,
        WithLosses(inner, 9.0),
        WithMagnitudes(WithLosses(inner, 9.0)),
    ):
        assert calibrates(algorithm)
    for algorithm in (plain, WithLosses(plain, 9.0)):
        assert not calibrates(algorithm)
