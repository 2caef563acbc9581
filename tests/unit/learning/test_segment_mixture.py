"""A segment: the whole until it has learned, then as far its own as that pays."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ensemble.core.learning.algorithm import Algorithm, Labelled
from stream_ensemble.core.learning.bank import Bank
from stream_ensemble.core.learning.contribution import Contribution, from_bytes, to_bytes
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.core.learning.segment_mixture import ARMS, Belief, SegmentMixture
from tests.unit.learning.batches import names

K = 3
RNG = np.random.default_rng(0)


def algorithms() -> list[Algorithm]:
    return [MLPoly(names(K), half_life=50.0), Bank(names(K))]


def rows(count: int, *, best: int = 1) -> Labelled:
    """Requests of which one member knows the answer."""
    labels = RNG.integers(0, 3, count)
    outputs = RNG.dirichlet(np.ones(3), (count, K))
    outputs[np.arange(count), best] = 0.8 * np.eye(3)[labels] + 0.2 / 3
    return Labelled(outputs, np.ones((count, K), np.bool_), labels, np.ones(count), 0.0)


def somewhere(algorithm: Algorithm) -> np.ndarray:
    return RNG.random(len(algorithm.credit(algorithm.merge([]))))


@pytest.mark.parametrize("algorithm", algorithms())
def test_without_labels_it_is_the_global_one_to_the_last_bit(algorithm: Algorithm) -> None:
    mixture = SegmentMixture(algorithm)
    everywhere, own = somewhere(algorithm), mixture.credit(mixture.merge([]))
    some = rows(5)
    np.testing.assert_array_equal(
        mixture.fuse(everywhere, own, some.outputs, some.awake),
        algorithm.fuse(everywhere, some.outputs, some.awake),
    )
    np.testing.assert_array_equal(
        mixture.pool(everywhere, own, some.awake), algorithm.pool(everywhere, some.awake)
    )


@pytest.mark.parametrize("algorithm", algorithms())
def test_what_was_fused_before_the_first_label_teaches_the_weights_and_not_the_belief(
    algorithm: Algorithm,
) -> None:
    mixture = SegmentMixture(algorithm)
    part, alone = Contribution(names(K)), Contribution(names(K))
    nothing = mixture.credit(mixture.merge([]))
    some = rows(20)
    mixture.learn(part, somewhere(algorithm), nothing, some)
    algorithm.learn(alone, nothing, some)
    assert part.sums.keys() == alone.sums.keys()
    for name, array in alone.sums.items():
        np.testing.assert_array_equal(part.sums[name], array)


@pytest.mark.parametrize("algorithm", algorithms())
def test_it_believes_itself_where_it_knows_better(algorithm: Algorithm) -> None:
    mixture = SegmentMixture(algorithm)
    part = Contribution(names(K))
    everywhere = algorithm.credit(algorithm.merge([]))
    losses = []
    for n in range(60):
        own = mixture.credit(mixture.merge([part]))
        one = rows(1)
        one.clock = float(part.n)
        fused = mixture.fuse(everywhere, own, one.outputs, one.awake)
        losses.append(-np.log(fused[0, one.labels[0]]))
        mixture.learn(part, everywhere, own, one)
        part.n = n + 1
    assert np.mean(losses[30:]) < 0.6 * np.mean(losses[:5])
    own = mixture.credit(from_bytes(to_bytes(part)))
    weights = mixture.pool(everywhere, own, np.ones((1, K), np.bool_))
    assert weights.argmax() == 1
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-12)


@pytest.mark.parametrize("algorithm", algorithms())
def test_a_label_taken_back_leaves_no_trace_in_the_sums(algorithm: Algorithm) -> None:
    mixture = SegmentMixture(algorithm)
    everywhere = somewhere(algorithm)
    own = np.concatenate([somewhere(algorithm), [0.3, 1.0]])
    part, some = Contribution(names(K)), rows(10)
    mixture.learn(part, everywhere, own, some)
    some.scale = -some.scale
    mixture.learn(part, everywhere, own, some)
    assert all(np.abs(array).max() < 1e-12 for array in part.sums.values())


def test_nobody_awake_and_a_mixture_of_nothing_teach_nothing() -> None:
    mixture = SegmentMixture(Bank(names(K)))
    labelled = Labelled(np.zeros((2, K, 3)), np.zeros((2, K), np.bool_), np.array([0, 2]), np.ones(2), 4.0)
    part = Contribution(names(K))
    own = np.concatenate([np.ones(mixture.width), [1.0, 1.0]])
    mixture.learn(part, np.ones(mixture.width), own, labelled)
    assert all((array == 0).all() for array in part.sums.values())
    assert (mixture.fuse(own[:-2], own, labelled.outputs, labelled.awake) == 0).all()


def test_the_belief_is_ml_poly_that_starts_at_the_global_one() -> None:
    belief = Belief("bank")
    both = np.ones((1, 2), np.bool_)
    assert belief.pool(np.zeros(2), both).tolist() == [[1.0, 0.0]]
    assert belief.pool(np.array([0.0, 1.0]), both)[0] == pytest.approx([0.005, 0.995])
    assert belief.pool(np.array([1.0, 1.0]), ~both).tolist() == [[0.0, 0.0]]
    assert belief.members == ARMS


def test_what_was_believed_of_another_algorithm_does_not_count() -> None:
    old, new = SegmentMixture(MLPoly(names(K))), SegmentMixture(Bank(names(K)))
    part = Contribution(names(K))
    own = np.concatenate([np.ones(K), [1.0, 1.0]])
    old.learn(part, np.array([1.0, 0.0, 0.0]), own, rows(10))
    part.n = 10
    assert (old.credit(old.merge([part]))[-2:] > 0).any()
    assert (new.credit(new.merge([part]))[-2:] == 0).all()


def test_members_that_come_and_go_leave_the_belief() -> None:
    old = SegmentMixture(MLPoly(("a", "b", "c")))
    part = Contribution(names(K))
    own = np.concatenate([np.ones(K), [1.0, 1.0]])
    old.learn(part, np.array([1.0, 0.0, 0.0]), own, rows(10))
    part.n = 10
    part.members = ("a", "b", "c")
    new = SegmentMixture(MLPoly(("d", "c")))
    assert (new.credit(new.merge([part]))[-2:] == old.credit(old.merge([part]))[-2:]).all()
    assert new.fits(new.credit(new.merge([part])))
    assert not new.fits(own)
