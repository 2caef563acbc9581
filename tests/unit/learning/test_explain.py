"""What is shown of a state adds up to what is fused with."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ensemble.core.learning.algorithm import Algorithm, Labelled
from stream_ensemble.core.learning.bank import Bank
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.explain import ONLY, explained
from stream_ensemble.core.learning.fixed import Fixed
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.core.learning.uniform import uniform

MEMBERS = ("a", "b", "c")


def state(algorithm: Algorithm, labels: int = 30) -> Contribution:
    """After labels under which a is right, mostly."""
    rng = np.random.default_rng(5)
    part = Contribution(MEMBERS)
    truth = rng.integers(0, 4, labels)
    outputs = rng.dirichlet(np.ones(4), (labels, 3))
    outputs[:, 0] = 0.1
    outputs[np.arange(labels), 0, truth] = 0.7
    awake = np.ones((labels, 3), np.bool_)
    credit = algorithm.credit(algorithm.merge([]))
    algorithm.learn(part, credit, Labelled(outputs, awake, truth, np.ones(labels), 0.0))
    part.n = labels
    return algorithm.merge([part])


@pytest.mark.parametrize("algorithm", [MLPoly(MEMBERS), Bank(MEMBERS), uniform(MEMBERS)])
def test_the_arms_by_their_shares_are_the_weights(algorithm: Algorithm) -> None:
    whole = state(algorithm)
    arms = explained(algorithm, whole)
    pooled = algorithm.pool(algorithm.credit(whole), np.ones((1, 3), np.bool_))[0]
    assert sum(arm.share for arm in arms) == pytest.approx(1.0)
    np.testing.assert_allclose(sum(arm.share * arm.weights for arm in arms), pooled, rtol=1e-12)


def test_the_member_that_is_right_has_regret_and_weight_in_every_arm_that_learns() -> None:
    bank = Bank(MEMBERS)
    arms = {arm.name: arm for arm in explained(bank, state(bank))}
    assert list(arms) == ["50", "500", "5000", "inf", "uniform", "geo1", "geo1.5", "geo2", "geo1-500"]
    for name, arm in arms.items():
        if name == "uniform":
            assert arm.regrets is None
            assert arm.spreads is None
            assert arm.weights.tolist() == [pytest.approx(1 / 3)] * 3
            continue
        assert arm.regrets is not None
        assert arm.spreads is not None
        assert arm.regrets[0] > 0 > arm.regrets[1:].max()
        assert arm.weights[0] > 0.98
        assert (arm.spreads > 0).all()


def test_nothing_learned_is_shown_as_nothing() -> None:
    (arm,) = explained(MLPoly(MEMBERS), Contribution(MEMBERS))
    assert (arm.name, arm.share, arm.regrets) == (ONLY, 1.0, None)
    assert arm.weights.tolist() == [pytest.approx(1 / 3)] * 3
    (fixed,) = explained(Fixed(MEMBERS, np.array([1.0, 3.0, 0.0])), Contribution(MEMBERS))
    assert fixed.weights.tolist() == [0.25, 0.75, 0.0]
