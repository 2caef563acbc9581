"""EWA, AdaNormalHedge, softmax gradient and best single against their definitions."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping

import numpy as np
import pytest
import torch
from river import base, datasets, ensemble

from stream_ensemble.core.learning.ada_normal_hedge import AdaNormalHedge
from stream_ensemble.core.learning.backtest import Stream, play
from stream_ensemble.core.learning.best_single import BestSingle
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.ewa import EWA
from stream_ensemble.core.learning.losses import LogLoss, Square
from stream_ensemble.core.learning.schedule import delayed
from stream_ensemble.core.learning.softmax_gradient import SoftmaxGradient
from tests.unit.learning.batches import REGRESSORS, batch, names, rows_of

EVERYONE = np.ones((1, 4), np.bool_)
VALUES = next(iter(REGRESSORS))


class Recorded(base.Regressor):
    """A river model that says what was recorded."""

    def __init__(self, member: Hashable) -> None:
        self.member = member

    def learn_one(self, x: Mapping[Hashable, float], y: float) -> None:
        pass

    def predict_one(self, x: Mapping[Hashable, float]) -> float:
        return x[self.member]


def test_ewa_weighs_as_rivers() -> None:
    labelled = batch(VALUES, 25, missing=0.0)
    labelled.outputs = labelled.outputs[:, :, :1]
    ours, part = EWA(names(4), rate=0.02, loss=Square()), Contribution(names(4))
    theirs = ensemble.EWARegressor([Recorded(k) for k in range(4)], learning_rate=0.02)
    for r in range(25):
        ours.learn(part, ours.credit(part), rows_of(labelled, [r]))
        theirs.learn_one(dict(enumerate(labelled.outputs[r, :, 0].tolist())), float(labelled.labels[r]))
        np.testing.assert_allclose(ours.pool(ours.credit(part), EVERYONE)[0], theirs.weights, rtol=1e-9)


def test_ewa_predicts_the_polls_as_rivers() -> None:
    """River's Trump approval ratings: 1,001 days of five pollsters' estimates."""
    pollsters = ("gallup", "ipsos", "morning_consult", "rasmussen", "you_gov")
    days = list(datasets.TrumpApproval())
    outputs = np.array([[x[name] for name in pollsters] for x, _ in days])[..., None]
    y, awake = np.array([y for _, y in days]), np.ones((len(days), 5), np.bool_)
    played = play(
        Stream(outputs, awake, y, delayed(len(y), 0)), EWA(pollsters, rate=0.005, loss=Square()), Square()
    )
    theirs = ensemble.EWARegressor([Recorded(name) for name in pollsters], learning_rate=0.005)
    for t, (x, label) in enumerate(days):
        # Before its first label river's weights do not sum to 1.
        assert t == 0 or played.fused[t, 0] == pytest.approx(theirs.predict_one(x), rel=1e-9)
        theirs.learn_one(x, label)
    assert t == 1000


def test_ada_normal_hedge_by_its_definition() -> None:
    R, C, B = np.array([2.0, -0.5, -3.0, 0.0]), np.array([4.0, 2.5, 3.0, 0.0]), 0.5
    algorithm = AdaNormalHedge(names(4), floor=0.0)
    part = Contribution(names(4), {"R": R, "|r|": C}, {"B": np.array([B, 0.1, 0.2, 0.0])})

    def phi(r: float, c: float) -> float:
        return math.exp(max(r, 0.0) ** 2 / (3 * c))

    raw = np.array([phi(r / B + 1, c / B + 1) - phi(r / B - 1, c / B + 1) for r, c in zip(R, C, strict=True)])
    weights = algorithm.pool(algorithm.credit(part), EVERYONE)[0]
    np.testing.assert_allclose(weights, raw / raw.sum(), rtol=1e-12)


def test_softmax_gradient_is_what_torchs_optimiser_does() -> None:
    labelled = batch("bank", 30, missing=0.0)
    algorithm, part = SoftmaxGradient(names(4), rate=0.3), Contribution(names(4))
    theta = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([theta], lr=0.3)
    for r in range(30):
        algorithm.learn(part, algorithm.credit(part), rows_of(labelled, [r]))
        fused = theta.softmax(0) @ torch.tensor(labelled.outputs[r])
        optimiser.zero_grad()
        (-fused[int(labelled.labels[r])].log()).backward()
        optimiser.step()
        weights = algorithm.pool(algorithm.credit(part), EVERYONE)[0]
        np.testing.assert_allclose(weights, theta.detach().softmax(0).numpy(), rtol=1e-9)


def test_the_best_so_far_takes_all_of_those_awake() -> None:
    labelled = batch("bank", 200, missing=0.0)
    algorithm, part = BestSingle(names(4), loss=LogLoss()), Contribution(names(4))
    algorithm.learn(part, algorithm.credit(part), labelled)
    truth = labelled.outputs[np.arange(200), :, labelled.labels]
    ranked = np.argsort(-np.log(truth).mean(axis=0))
    awake = np.ones((2, 4), np.bool_)
    awake[1, ranked[0]] = False
    weights = algorithm.pool(algorithm.credit(part), awake)
    assert weights[0, ranked[0]] == 1.0
    assert weights[1, ranked[1]] == 1.0
