"""The best fixed weights: opera's published ones, SciPy's, and hostile cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from stream_ensemble.core.learning.hindsight import best_convex
from stream_ensemble.core.learning.losses import Absolute, Brier, LogLoss, Loss, Pinball, Square
from tests.unit.learning.batches import batch
from tests.unit.learning.test_ml_poly import electric_load

LOSSES: list[Loss] = [LogLoss(), Brier(), Square(), Absolute(), Pinball((0.2, 0.7))]


def test_electric_load_as_in_opera() -> None:
    stream = electric_load()
    weights, loss = best_convex(Square(), stream.outputs, stream.awake, stream.labels)
    assert [round(float(w), 5) for w in weights] == [0.71917, 0.20088, 0.07995]
    assert round(loss**0.5, 4) == 1442.4276


def _example(loss: Loss, missing: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Four members who all know something: outputs, awake, labels."""
    rng = np.random.default_rng(6)
    if loss.name in ("log", "brier"):
        labels = rng.integers(0, 3, 300)
        outputs = rng.gamma(0.7, 1.0, (300, 4, 3)) + 0.05
        outputs += np.eye(3)[labels][:, None] * rng.exponential([[[1.0], [1.2], [1.4], [1.6]]], (300, 4, 1))
        outputs /= outputs.sum(axis=2, keepdims=True)
    else:
        labels = rng.normal(0, 1, 300)
        width = 2 if loss.name == "pinball" else 1
        outputs = labels[:, None, None] + rng.normal(0, 1, (300, 4, width)) * [[[1.0], [1.1], [1.2], [1.3]]]
    awake = rng.random((300, 4)) >= missing
    rows = awake.any(axis=1)
    return np.where(awake[..., None], outputs, 0.0)[rows], awake[rows], labels[rows]


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_scipy_finds_none_better(loss: Loss, missing: float) -> None:
    outputs, awake, labels = _example(loss, missing)

    def of(w: np.ndarray) -> float:
        live = w * awake
        fused = np.einsum("rk,rkc->rc", live / live.sum(axis=1, keepdims=True), outputs)
        return float(loss.loss(loss.points(fused, labels), labels).mean())

    weights, ours = best_convex(loss, outputs, awake, labels)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert ours == pytest.approx(of(weights), rel=1e-9)
    sum_is_1 = {"type": "eq", "fun": lambda w: w.sum() - 1}
    theirs = minimize(of, np.full(4, 0.25), bounds=[(1e-9, 1)] * 4, constraints=[sum_is_1], method="SLSQP")
    assert theirs.success
    assert ours <= theirs.fun * (1 + 1e-6)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_one_member_identical_members_and_a_perfect_one(loss: Loss) -> None:
    of_classes = loss.name in ("log", "brier")
    labelled = batch("bank" if of_classes else "bank, square", 50, 1, missing=0.0)
    one = labelled.outputs if loss.name not in ("square", "absolute") else labelled.outputs[..., :1]
    perfect = np.eye(3)[labelled.labels] if of_classes else labelled.labels[:, None] + 0 * one[:, 0]
    for outputs in (one, np.repeat(one, 3, axis=1), np.stack([one[:, 0], perfect], axis=1)):
        awake = np.ones(outputs.shape[:2], np.bool_)
        weights, value = best_convex(loss, outputs, awake, labelled.labels)
        assert np.isfinite(weights).all()
        assert weights.sum() == pytest.approx(1, abs=1e-12)
        alone = loss.loss(loss.points(outputs[:, -1], labelled.labels), labelled.labels).mean()
        assert value <= alone + 1e-6


def test_values_in_millions_do_not_change_the_weights() -> None:
    labelled = batch("bank, square", 200, missing=0.0)
    for loss in (Square(), Absolute()):
        a, b = (
            best_convex(loss, labelled.outputs[..., :1] * unit, labelled.awake, labelled.labels * unit)[0]
            for unit in (1.0, 1e6)
        )
        np.testing.assert_allclose(a, b, atol=1e-4)
