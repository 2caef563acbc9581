"""The backtest does in chunks what the live learner does label by label."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stream_ensemble.core.learning.additive import Additive
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.backtest import NEVER, Stream, delayed, in_bursts, play
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.losses import LogLoss
from tests.unit.learning.batches import CLASSIFIERS, batch, names

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


def one_by_one(stream: Stream, algorithm: Additive) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """What a fuser and a learner do, with one request in hand at a time."""
    part = Contribution(algorithm.members)
    credits_then: dict[int, NDArray[np.float64]] = {}
    clocks: dict[int, float] = {}
    losses, weights = [], []
    for t in range(ROWS):
        for s in np.flatnonzero((stream.arrival <= t) & (stream.arrival > t - 1)):
            row = slice(s, s + 1)
            one = Labelled(
                stream.outputs[row], stream.awake[row], stream.labels[row], np.ones(1), clocks[int(s)]
            )
            algorithm.learn(part, credits_then[int(s)], one)
            part.n += 1
        credits_then[t], clocks[t] = algorithm.credit(algorithm.merge([part])), float(part.n)
        fused = algorithm.fuse(credits_then[t], stream.outputs[t : t + 1], stream.awake[t : t + 1])
        losses.append(-np.log(max(fused[0, stream.labels[t]], 1e-15)))
        weights.append(algorithm.pool(credits_then[t], stream.awake[t : t + 1])[0])
    return np.array(losses), np.array(weights), part.n


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_chunks_are_as_one_by_one(name: str, schedule: str) -> None:
    labelled = batch(name, ROWS)
    stream = Stream(labelled.outputs, labelled.awake, labelled.labels, SCHEDULES[schedule])
    algorithm = CLASSIFIERS[name](names(4))
    played = play(stream, algorithm, LogLoss())
    losses, weights, n = one_by_one(stream, algorithm)
    assert played.n == n
    np.testing.assert_allclose(played.losses, losses, rtol=1e-9)
    np.testing.assert_allclose(played.weights, weights, atol=1e-9)


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
