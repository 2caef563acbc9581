"""DORM against its definition, written as loops."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ensemble.core.learning.backtest import Stream, play
from stream_ensemble.core.learning.dorm import DORM
from stream_ensemble.core.learning.losses import Absolute
from stream_ensemble.core.learning.schedule import delayed
from tests.unit.learning.batches import names

ROWS, K, DELAY, HALF_LIFE = 120, 3, 6, 10.0


def test_it_adds_the_mean_of_the_last_regrets_for_each_one_on_its_way() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(0, 1, ROWS)
    x = y[:, None] + rng.normal(0, 1, (ROWS, K)) * [0.5, 1, 2]
    stream = Stream(x[..., None], np.ones((ROWS, K), np.bool_), y, delayed(ROWS, DELAY))
    ours = play(stream, DORM(names(K), DELAY + 1, HALF_LIFE, 0.0, Absolute()), Absolute()).weights
    regrets: list[np.ndarray] = []
    clocks: list[int] = []
    for t in range(ROWS):
        seen = max(t - DELAY, 0)
        scores = np.zeros(K)
        if seen:
            ages = clocks[seen - 1] - np.array(clocks[:seen])
            age_weights = 0.5 ** (ages / HALF_LIFE)
            hint = (DELAY + 1) * np.average(regrets[:seen], axis=0, weights=age_weights)
            scores = np.maximum(np.sum(regrets[:seen], axis=0) + hint, 0.0)
        w = scores / scores.sum() if scores.any() else np.full(K, 1 / K)
        np.testing.assert_allclose(ours[t], w, atol=1e-9)
        m = float(w @ x[t])
        regrets.append(np.sign(m - y[t]) * (m - x[t]))
        clocks.append(seen)


@pytest.mark.parametrize("missing", [1.0, 500.0])
def test_weights_stay_shares_however_much_is_missing(missing: float) -> None:
    rng = np.random.default_rng(4)
    y = rng.normal(0, 1, ROWS)
    x = y[:, None] + rng.normal(0, 1, (ROWS, K))
    stream = Stream(x[..., None], np.ones((ROWS, K), np.bool_), y, delayed(ROWS, 50))
    weights = play(stream, DORM(names(K), missing, loss=Absolute()), Absolute()).weights
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-12)
