"""The backtest does in chunks what the live learner does label by label."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stream_ensemble.core.learning.algorithm import Algorithm, Labelled
from stream_ensemble.core.learning.backtest import Stream, play
from stream_ensemble.core.learning.bank import Arm, Bank
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.losses import Absolute, LogLoss, Loss, Pinball, Square
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.core.learning.schedule import NEVER, delayed, in_bursts
from tests.unit.learning.batches import CLASSIFIERS, IN_ORDER, REGRESSORS, VALUE_LOSSES, batch, names

ROWS = 90


def late_at_random(rows: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(7)
    arrival = np.arange(rows) + 1 + rng.geometric(0.1, rows)
    arrival[rng.random(rows) < 0.2] = NEVER
    return arrival


SCHEDULES = {
    "at once": delayed(ROWS, 0),
    "7 late": delayed(ROWS, 7),
    "bursts of 25": in_bursts(ROWS, 25),
    "random, some never": late_at_random(ROWS),
    "never": delayed(ROWS, 10_000),
}


def one_by_one(
    stream: Stream, algorithm: Algorithm, loss: Loss, clocks: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """What a fuser and a learner do, with one request in hand at a time: losses, weights, labels."""
    part = Contribution(algorithm.members)
    credits_then: dict[int, NDArray[np.float64]] = {}
    clock_then: dict[int, float] = {}
    losses, weights = [], []
    for t in range(len(stream.labels)):
        for s in np.flatnonzero((stream.arrival <= t) & (stream.arrival > t - 1)):
            row = slice(s, s + 1)
            one = Labelled(
                stream.outputs[row], stream.awake[row], stream.labels[row], np.ones(1), clock_then[int(s)]
            )
            algorithm.learn(part, credits_then[int(s)], one)
            part.n += 1
        credits_then[t] = algorithm.credit(algorithm.merge([part]))
        clock_then[t] = float(part.n if clocks is None else clocks[t])
        row = slice(t, t + 1)
        fused = algorithm.fuse(credits_then[t], stream.outputs[row], stream.awake[row])
        losses.append(loss.loss(loss.points(fused, stream.labels[row]), stream.labels[row])[0])
        weights.append(algorithm.pool(credits_then[t], stream.awake[row])[0])
    return np.array(losses), np.array(weights), part.n


EVERYONE = CLASSIFIERS | REGRESSORS | IN_ORDER


def loss_of(name: str) -> Loss:
    """What an algorithm of the tests minimises."""
    return VALUE_LOSSES.get(name.rpartition(", ")[2], LogLoss())


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", EVERYONE)
def test_chunks_are_as_one_by_one(name: str, schedule: str) -> None:
    labelled = batch(name, ROWS)
    stream = Stream(labelled.outputs, labelled.awake, labelled.labels, SCHEDULES[schedule])
    algorithm, loss = EVERYONE[name](names(4)), loss_of(name)
    played = play(stream, algorithm, loss)
    losses, weights, n = one_by_one(stream, algorithm, loss)
    assert played.n == n
    np.testing.assert_allclose(played.losses, losses, rtol=1e-9)
    np.testing.assert_allclose(played.weights, weights, atol=1e-9)


def test_a_jump_of_the_clock_by_thousands_of_half_lives_overflows_nothing() -> None:
    labelled = batch("bank", ROWS)
    algorithm = Bank(names(4), arms=(Arm("short", 0.02), Arm("long", 30.0), Arm("inf", None)))
    rng = np.random.default_rng(1)
    clocks = np.cumsum(rng.choice([0, 1, 40, 3000], ROWS))
    for arrival in SCHEDULES.values():
        stream = Stream(labelled.outputs, labelled.awake, labelled.labels, arrival)
        played = play(stream, algorithm, LogLoss(), clocks)
        losses, weights, _ = one_by_one(stream, algorithm, LogLoss(), clocks)
        np.testing.assert_allclose(played.losses, losses, rtol=1e-9)
        np.testing.assert_allclose(played.weights, weights, atol=1e-9)


def test_a_unit_a_million_times_smaller_leaves_the_weights_of_a_whole_stream() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(100, 10, 2000)
    outputs = (y[:, None] + rng.normal(0, 1, (2000, 4)) * [1, 2, 3, 9])[..., None]
    awake = rng.random((2000, 4)) > 0.2
    outputs = np.where(awake[..., None], outputs, 0.0)
    arrival = delayed(2000, 30)
    for loss in (Absolute(), Square(), Pinball((0.3,))):
        for make in (Bank, lambda members, loss: MLPoly(members, 200.0, loss=loss)):
            small, large = (
                play(Stream(outputs * unit, awake, y * unit, arrival), make(names(4), loss), loss).weights
                for unit in (1.0, 1e6)
            )
            assert np.abs(small - large).max() <= 1e-9


def test_arrivals() -> None:
    assert delayed(3, 0).tolist() == [1, 2, 3]
    assert delayed(3, 100).tolist() == [101, 102, 103]
    assert in_bursts(5, 2).tolist() == [2, 2, 4, 4, 6]


def test_labels_that_come_after_the_last_request_are_not_counted() -> None:
    labelled = batch("bank", ROWS)
    stream = Stream(labelled.outputs, labelled.awake, labelled.labels, delayed(ROWS, 3))
    assert play(stream, CLASSIFIERS["bank"](names(4)), LogLoss()).n == ROWS - 4


def test_nothing_of_a_label_is_used_before_it_arrives() -> None:
    labelled = batch("bank", ROWS)
    early = Stream(labelled.outputs, labelled.awake, labelled.labels, delayed(ROWS, 9))
    changed = labelled.labels.copy()
    changed[40] = (changed[40] + 1) % 3
    late = Stream(labelled.outputs, labelled.awake, changed, delayed(ROWS, 9))
    a, b = (play(stream, CLASSIFIERS["bank"](names(4)), LogLoss()).weights for stream in (early, late))
    assert (a[:50] == b[:50]).all()
    assert (a[50] != b[50]).any()
