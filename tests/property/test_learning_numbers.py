"""No finite input makes a weight that is not a number."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.contribution import Contribution, from_bytes, to_bytes
from tests.unit.learning.batches import CLASSIFIERS, REGRESSORS, names

ROWS, K = 4, 3
values = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, 1e9, 1e-9, 1e300, -1e300, 5e-324, 1.7976931348623157e308]),
)
chances = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 5e-324, 1e-12, 1e-13, 1 - 2**-53]))
clocks = st.one_of(st.integers(0, 10**6), st.sampled_from([0, 2**53])).map(float)
scales = st.sampled_from([1.0, -1.0, 1e-300, 1e6])


def _labelled(draw: st.DrawFn, outputs: np.ndarray, labels: np.ndarray) -> Labelled:
    awake = draw(arrays(np.bool_, (ROWS, K)))
    scale = draw(arrays(np.float64, ROWS, elements=scales))
    return Labelled(np.where(awake[..., None], outputs, 0.0), awake, labels, scale, draw(clocks))


@st.composite
def classified(draw: st.DrawFn) -> Labelled:
    outputs = draw(arrays(np.float64, (ROWS, K, 2), elements=chances))
    return _labelled(draw, outputs, draw(arrays(np.int64, ROWS, elements=st.integers(0, 1))))


@st.composite
def measured(draw: st.DrawFn) -> Labelled:
    outputs = draw(arrays(np.float64, (ROWS, K, 2), elements=values))
    return _labelled(draw, outputs, draw(arrays(np.float64, ROWS, elements=values)))


def _learn_and_check(makers: dict, batches: list[Labelled]) -> None:
    for name, make in makers.items():
        algorithm = make(names(K))
        part = Contribution(algorithm.members)
        for labelled in batches:
            credit = algorithm.credit(algorithm.merge([part]))
            assert np.isfinite(credit).all(), name
            weights = algorithm.pool(credit, labelled.awake)
            assert (weights >= 0).all(), name
            assert np.abs(weights.sum(axis=1) - labelled.awake.any(axis=1)).max() < 1e-9, name
            algorithm.learn(part, credit, labelled)
        # What is written can be read back: it is refused unless all of it is finite.
        from_bytes(to_bytes(part))
        assert np.isfinite(algorithm.credit(algorithm.merge([part, part]))).all(), name


@given(st.lists(classified(), min_size=1, max_size=4))
def test_over_classes(batches: list[Labelled]) -> None:
    _learn_and_check(CLASSIFIERS, batches)


@given(st.lists(measured(), min_size=1, max_size=4))
def test_over_values(batches: list[Labelled]) -> None:
    _learn_and_check(REGRESSORS, batches)
