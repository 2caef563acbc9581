"""Beside each sum stands the sum of |increments|, whatever was added, taken back and discounted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.core.learning.additive import Additive
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.bank import Bank
from stream_ensemble.core.learning.contribution import Contribution, discount
from stream_ensemble.core.learning.magnitudes import WithMagnitudes, apart
from stream_ensemble.core.learning.ml_poly import MLPoly

MEMBERS = ("a", "b", "c")
ALGORITHMS: list[Additive[Any]] = [MLPoly(MEMBERS, 5.0), Bank(MEMBERS)]

labels = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.sampled_from([1.0, -1.0, 2.5, -0.5]), st.integers(0, 9)),
    max_size=12,
)


def one(seed: int, scale: float, clock: int) -> Labelled:
    rng = np.random.default_rng(seed)
    awake = rng.random((1, 3)) < 0.7
    outputs = rng.dirichlet(np.ones(4), (1, 3)) * awake[..., None]
    return Labelled(outputs, awake, rng.integers(0, 4, 1), np.array([scale]), float(clock))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(drawn=labels)
def test_it_is_the_sum_of_the_sizes_and_changes_nothing_else(
    algorithm: Additive[Any], drawn: list[tuple[int, float, int]]
) -> None:
    plain, both = Contribution(MEMBERS), Contribution(MEMBERS)
    measured = WithMagnitudes(algorithm)
    credit = np.random.default_rng(1).random(len(algorithm.credit(algorithm.merge([]))))
    for label in drawn:
        algorithm.learn(plain, credit, one(*label))
        measured.learn(both, credit, one(*label))
    own, sizes = apart(both)
    assert own.sums.keys() == plain.sums.keys() == sizes.keys()
    for name, array in plain.sums.items():
        assert (own.sums[name] == array).all()
    last = max((clock for _, _, clock in drawn), default=0)
    for name, array in sizes.items():
        expected = sum(
            abs(scale)
            * np.abs(algorithm.increments(credit, one(seed, scale, clock)).sums[name][0])
            * discount(algorithm.half_lives.get(name), last - clock)
            for seed, scale, clock in drawn
        )
        np.testing.assert_allclose(array, expected, rtol=1e-12, atol=1e-300)
        assert (array * (1 + 1e-12) >= np.abs(own.sums[name])).all()


def test_its_credit_and_its_mixtures_are_the_algorithms_own() -> None:
    algorithm = Bank(MEMBERS)
    measured = WithMagnitudes(algorithm)
    part = Contribution(MEMBERS)
    credit = algorithm.credit(algorithm.merge([]))
    label = one(3, 1.0, 0)
    measured.learn(part, credit, label)
    whole = measured.merge([part])
    assert (measured.credit(whole) == algorithm.credit(algorithm.merge([apart(part)[0]]))).all()
    values = measured.credit(whole)
    assert (measured.pool(values, label.awake) == algorithm.pool(values, label.awake)).all()
    fused = algorithm.fuse(values, label.outputs, label.awake)
    assert (measured.fuse(values, label.outputs, label.awake) == fused).all()
