"""Scores against scikit-learn's, whole and bit by bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics

from stream_ensemble.core.evaluation.classification import (
    Tally,
    accuracy,
    brier,
    calibration_error,
    confusion,
    log_loss,
    macro_f1,
)


def rows(n: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(classes, 0.4), n), rng.integers(0, classes, n)


@pytest.mark.parametrize(("n", "classes"), [(1, 2), (7, 3), (500, 2), (500, 26)])
def test_as_in_scikit_learn(n: int, classes: int) -> None:
    p, labels = rows(n, classes)
    every = list(range(classes))
    answers = p.argmax(axis=1)
    assert accuracy(p, labels) == pytest.approx(metrics.accuracy_score(labels, answers), rel=1e-12)
    assert log_loss(p, labels) == pytest.approx(metrics.log_loss(labels, p, labels=every), rel=1e-9)
    assert macro_f1(p, labels) == pytest.approx(
        metrics.f1_score(labels, answers, average="macro", zero_division=0), rel=1e-12
    )
    assert (confusion(p, labels) == metrics.confusion_matrix(labels, answers, labels=every)).all()


def test_brier_over_two_classes_is_twice_scikit_learns() -> None:
    p, labels = rows(300, 2)
    assert brier(p, labels) == pytest.approx(2 * metrics.brier_score_loss(labels, p[:, 1]), rel=1e-12)


def test_brier_over_many_classes_is_the_squared_distance_to_the_truth() -> None:
    p, labels = rows(300, 4)
    assert brier(p, labels) == pytest.approx(((p - np.eye(4)[labels]) ** 2).sum(axis=1).mean(), rel=1e-12)


def test_a_class_that_never_comes_is_left_out_of_the_macro_f1() -> None:
    p = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0]])
    labels = np.array([0, 1, 1])
    assert macro_f1(p, labels) == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_a_probability_of_zero_for_the_truth_costs_34_nats() -> None:
    assert log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-math.log(1e-15))


def test_calibration_error_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.0, 1.0]])
    labels = np.array([0, 1, 1, 1])
    # Bins of .9 (twice, right once), .6 (right), 1 (right).
    expected = (abs(1.8 - 1) + abs(0.6 - 1) + abs(1.0 - 1)) / 4
    assert calibration_error(p, labels) == pytest.approx(expected, rel=1e-12)


def test_calibration_error_is_what_a_loop_over_its_bins_gives() -> None:
    p, labels = rows(400, 3)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    expected = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(p, labels) == pytest.approx(expected, rel=1e-12)


def test_outputs_that_say_how_often_they_are_right_have_no_calibration_error() -> None:
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(3), 200_000)
    labels = (rng.random((len(p), 1)) > p.cumsum(axis=1)).sum(axis=1)
    assert calibration_error(p, labels) < 0.01
    sharpened = p**3 / (p**3).sum(axis=1, keepdims=True)
    assert calibration_error(sharpened, labels) > 0.1


@pytest.mark.parametrize("score", ["accuracy", "log_loss", "macro_f1", "brier", "calibration_error"])
def test_without_rows_there_is_no_score(score: str) -> None:
    assert math.isnan(getattr(Tally(3), score))
    assert math.isnan(getattr(Tally.of(np.zeros((0, 3)), np.zeros(0, np.int64)), score))


@pytest.mark.parametrize("score", ["accuracy", "log_loss", "macro_f1", "brier", "calibration_error"])
def test_bit_by_bit_and_merged_is_as_at_once(score: str) -> None:
    p, labels = rows(101, 5)
    first, second = Tally(5), Tally(5)
    for r in range(60):
        first.add(p[r : r + 1], labels[r : r + 1])
    second.add(p[60:], labels[60:])
    first.merge(second)
    assert first.n == 101
    assert getattr(first, score) == pytest.approx(getattr(Tally.of(p, labels), score), rel=1e-12)


def test_twice_the_rows_are_scored_the_same() -> None:
    p, labels = rows(50, 3)
    twice = Tally.of(p, labels)
    twice.merge(Tally.of(p, labels))
    assert twice.n == 100
    assert twice.log_loss == pytest.approx(log_loss(p, labels), rel=1e-12)
    assert (twice.confusion == 2 * confusion(p, labels)).all()
