"""The losses the guardrail judges by are those of both mixtures, additive whatever comes in which order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.core.learning.additive import Additive
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.bank import Bank
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.guardrail import Judged, Thresholds, WithLosses, judged
from stream_ensemble.core.learning.ml_poly import MLPoly

MEMBERS = ("a", "b", "c")
HALF_LIFE = 10.0
ALGORITHMS: list[Additive[Any]] = [MLPoly(MEMBERS, 5.0), Bank(MEMBERS)]

labels = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 0.5, 3.0]), st.integers(0, 30)),
    min_size=1,
    max_size=10,
)


def one(seed: int, scale: float, clock: int) -> Labelled:
    rng = np.random.default_rng(seed)
    awake = rng.random((1, 3)) < 0.7
    outputs = rng.dirichlet(np.ones(4), (1, 3)) * awake[..., None]
    return Labelled(outputs, awake, rng.integers(0, 4, 1), np.array([scale]), float(clock))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(drawn=labels, split=st.lists(st.integers(0, 1), min_size=10, max_size=10))
def test_both_are_the_mean_losses_of_what_would_have_been_issued(
    algorithm: Additive[Any], drawn: list[tuple[int, float, int]], split: list[int]
) -> None:
    guarded = WithLosses(algorithm, HALF_LIFE)
    credit = np.random.default_rng(1).random(len(algorithm.credit(algorithm.merge([]))))
    parts = [Contribution(MEMBERS), Contribution(MEMBERS)]
    last = max(clock for _, _, clock in drawn)
    expected = np.zeros(3)
    for (seed, scale, clock), p in zip(drawn, split, strict=False):
        label = one(seed, scale, clock)
        guarded.learn(parts[p], credit, label)
        if label.awake.any():
            truth = int(label.labels[0])
            learned = algorithm.fuse(credit, label.outputs, label.awake)[0, truth]
            uniform = label.outputs[0, label.awake[0], truth].mean()
            losses = [-np.log(max(learned, 1e-15)), -np.log(max(uniform, 1e-15)), 1.0]
            expected += scale * np.array(losses) * 2.0 ** (-(last - clock) / HALF_LIFE)
    found = judged(guarded.merge(parts))
    if expected[2] == 0:
        assert found is None
        return
    assert found is not None
    assert found.labels == pytest.approx(expected[2], rel=1e-12)
    assert found.learned == pytest.approx(expected[0] / expected[2], rel=1e-12)
    assert found.uniform == pytest.approx(expected[1] / expected[2], rel=1e-12)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(drawn=labels)
def test_what_is_learned_stays_the_same_and_a_label_taken_back_leaves_nothing(
    algorithm: Additive[Any], drawn: list[tuple[int, float, int]]
) -> None:
    guarded = WithLosses(algorithm, HALF_LIFE)
    credit = np.random.default_rng(1).random(len(algorithm.credit(algorithm.merge([]))))
    plain, beside = Contribution(MEMBERS), Contribution(MEMBERS)
    for label in drawn:
        algorithm.learn(plain, credit, one(*label))
        guarded.learn(beside, credit, one(*label))
    for name, array in plain.sums.items():
        assert (beside.sums[name] == array).all()
    assert (guarded.credit(guarded.merge([beside])) == algorithm.credit(algorithm.merge([plain]))).all()
    for seed, scale, clock in drawn:
        guarded.learn(beside, credit, one(seed, -scale, clock))
    (left,) = (array for name, array in beside.sums.items() if name not in plain.sums)
    assert np.abs(left).max() <= 1e-11


@given(
    now=st.booleans(),
    learned=st.floats(0, 10),
    uniform=st.floats(0, 10),
    count=st.floats(1, 200),
)
def test_it_switches_only_beyond_a_threshold_and_stays_between_the_two(
    now: bool, learned: float, uniform: float, count: float
) -> None:
    thresholds = Thresholds(least_labels=50.0, worse_by=0.05, back_at=-0.05)
    found = thresholds.on(now, Judged(learned, uniform, count))
    if count < 50:
        assert found is now
    elif learned - uniform > 0.05 * uniform:
        assert found
    elif learned - uniform <= -0.05 * uniform:
        assert not found
    else:
        assert found is now
    assert thresholds.on(now, None) is now
