"""What every algorithm promises, whatever it learns."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ensemble.core.fusion.linear_pool import linear_pool
from stream_ensemble.core.learning.contribution import Contribution
from tests.unit.learning.batches import (
    ALGORITHMS,
    CLASSIFIERS,
    COUNTS,
    IN_ORDER,
    REGRESSORS,
    assert_same_sums,
    batch,
    learned,
    names,
    rows_of,
    sizes,
    trained,
)

ALL = ALGORITHMS | IN_ORDER
every_algorithm = pytest.mark.parametrize("name", ALGORITHMS)
even_in_order = pytest.mark.parametrize("name", ALL)


@even_in_order
@pytest.mark.parametrize("k", [1, 2, 4, 500])
def test_weights_are_shares_of_the_awake(name: str, k: int) -> None:
    algorithm = ALL[name](names(k))
    part = trained(algorithm, name, 20)
    awake = np.random.default_rng(1).random((50, k)) > 0.5
    awake[0] = False
    weights = algorithm.pool(algorithm.credit(part), awake)
    assert (weights >= 0).all()
    assert (weights[~awake] == 0).all()
    somebody = awake.any(axis=1)
    assert np.abs(weights[somebody].sum(axis=1) - 1).max(initial=0) < 1e-12


@even_in_order
def test_before_any_label_everyone_weighs_alike_unless_told_otherwise(name: str) -> None:
    algorithm = ALL[name](names(4))
    weights = algorithm.pool(algorithm.credit(algorithm.merge([])), np.ones((1, 4), np.bool_))[0]
    expected = np.arange(1, 5) / 10 if name == "fixed" else np.full(4, 0.25)
    assert np.abs(weights - expected).max() < 1e-15


@every_algorithm
def test_asleep_members_learn_nothing(name: str) -> None:
    algorithm = ALGORITHMS[name](names(4))
    labelled = batch(name, 40, missing=0.5)
    taught = algorithm.increments(algorithm.credit(trained(algorithm, name)), labelled)
    for array, rows in [*taught.sums.items(), *taught.maxima.items()]:
        if not array.startswith("top/"):
            assert (rows[~labelled.awake] == 0).all(), array


@even_in_order
def test_the_state_of_an_asleep_member_is_left_to_the_last_bit(name: str) -> None:
    """At the same clock; a later one discounts everybody alike."""
    algorithm = ALL[name](names(4))
    part = trained(algorithm, name)
    labelled = batch(name, 40, seed=8, clock=part.clock, missing=0.0)
    labelled.awake[:, 2] = False
    labelled.outputs[:, 2] = 0.0
    after = part.copy()
    algorithm.learn(after, algorithm.credit(part), labelled)
    for before, now in ((part.sums, after.sums), (part.maxima, after.maxima)):
        for array, values in before.items():
            if not array.startswith("top/"):
                assert now[array][2] == values[2], array
    learns = name not in ("uniform", "fixed")
    assert learns == any((after.sums[array] != values).any() for array, values in part.sums.items())


@every_algorithm
def test_a_request_nobody_answered_teaches_nothing(name: str) -> None:
    algorithm = ALGORITHMS[name](names(4))
    labelled = batch(name, 5, missing=2.0)
    assert not labelled.awake.any()
    credit = algorithm.credit(trained(algorithm, name))
    taught = algorithm.increments(credit, labelled)
    for array, rows in [*taught.sums.items(), *taught.maxima.items()]:
        assert (rows == 0).all(), array
    assert (algorithm.fuse(credit, labelled.outputs, labelled.awake) == 0).all()


@every_algorithm
def test_a_member_that_joins_starts_from_nothing_and_changes_nobody_elses_sums(name: str) -> None:
    three, four = ALGORITHMS[name](("b", "a", "c")), ALGORITHMS[name](("a", "new", "b", "c"))
    part = trained(three, name)
    whole = four.merge([part])
    for array, values in part.sums.items():
        if array.startswith("top/"):
            assert (whole.sums[array] == values).all()
        else:
            assert (whole.sums[array] == values[[1, 0, 0, 2]] * [1, 0, 1, 1]).all()


@every_algorithm
def test_shuffled_over_four_workers_with_duplicates_taken_back(name: str) -> None:
    algorithm = ALGORITHMS[name](names(4))
    batches = [batch(name, 30, seed=seed, clock=7.0 * seed) for seed in range(8)]
    together = learned(algorithm, *batches)
    rng = np.random.default_rng(3)
    workers = [Contribution(algorithm.members) for _ in range(4)]
    credit = algorithm.credit(algorithm.merge([]))
    pieces = [rows_of(one, [r]) for one in batches for r in range(30)]
    for place in rng.permutation(len(pieces)):
        worker = workers[rng.integers(4)]
        for _ in range(2):
            algorithm.learn(worker, credit, pieces[place])
        twice = rows_of(pieces[place], [0])
        twice.scale = -twice.scale
        algorithm.learn(worker, credit, twice)
    # The discounts of the single steps multiply to that of the whole way.
    size = sizes(algorithm, *batches, *batches, *batches)
    assert_same_sums(algorithm.merge([together]), algorithm.merge(workers), size)
    for array, values in algorithm.merge([together]).maxima.items():
        np.testing.assert_allclose(algorithm.merge(workers).maxima[array], values, rtol=1e-12)
    everyone = np.ones((1, 4), np.bool_)
    whole, split = (
        algorithm.pool(algorithm.credit(algorithm.merge(parts)), everyone) for parts in ([together], workers)
    )
    assert np.abs(whole - split).max() <= 1e-12


@every_algorithm
def test_a_correction_is_as_if_the_wrong_label_had_never_been(name: str) -> None:
    algorithm = ALGORITHMS[name](names(4))
    right = batch(name, 50, clock=30.0)
    wrong = rows_of(right, slice(10, 11))
    wrong.labels = wrong.labels + 1 if name in REGRESSORS else (wrong.labels + 1) % 3
    taken_back = rows_of(wrong, [0])
    taken_back.scale = -wrong.scale
    others = rows_of(right, [r for r in range(50) if r != 10])
    corrected = learned(algorithm, wrong, others, taken_back, rows_of(right, [10]))
    never = learned(algorithm, right)
    assert_same_sums(corrected, never, sizes(algorithm, right, wrong, wrong))
    # B is a maximum and cannot be taken back.
    corrected.maxima = never.maxima
    everyone = np.ones((1, 4), np.bool_)
    weights = [algorithm.pool(algorithm.credit(part), everyone) for part in (corrected, never)]
    assert np.abs(weights[0] - weights[1]).max() <= 1e-12


@every_algorithm
def test_many_labels_at_once_are_as_one_by_one(name: str) -> None:
    algorithm = ALGORITHMS[name](names(4))
    labelled = batch(name, 64, clock=3.0)
    labelled.scale = np.linspace(0.1, 3.0, 64)
    at_once = learned(algorithm, labelled)
    one_by_one = learned(algorithm, *(rows_of(labelled, [r]) for r in range(64)))
    assert_same_sums(at_once, one_by_one, sizes(algorithm, labelled))
    for array, values in at_once.maxima.items():
        np.testing.assert_allclose(one_by_one.maxima[array], values, rtol=1e-12)


@every_algorithm
def test_a_credit_per_row_is_as_row_by_row(name: str) -> None:
    algorithm = ALGORITHMS[name](names(4))
    states = [trained(algorithm, name, rows) for rows in (1, 5, 30)]
    credit = np.stack([algorithm.credit(state) for state in states])
    labelled = batch(name, 3)
    pooled = algorithm.pool(credit, labelled.awake)
    fused = algorithm.fuse(credit, labelled.outputs, labelled.awake)
    taught = algorithm.increments(credit, labelled)
    for r in range(3):
        one = rows_of(labelled, [r])
        assert (algorithm.pool(credit[r], one.awake)[0] == pooled[r]).all()
        assert (algorithm.fuse(credit[r], one.outputs, one.awake)[0] == fused[r]).all()
        for array, rows in algorithm.increments(credit[r], one).sums.items():
            np.testing.assert_allclose(rows[0], taught.sums[array][r], rtol=1e-12, atol=1e-13)


@even_in_order
@pytest.mark.parametrize("k", [1, 3, 500])
def test_a_fused_row_does_not_depend_on_the_other_rows_to_the_last_bit(name: str, k: int) -> None:
    algorithm = ALL[name](names(k))
    credit = algorithm.credit(trained(algorithm, name, 20))
    labelled = batch(name, 37, k)
    fused = algorithm.fuse(credit, labelled.outputs, labelled.awake)
    for r in range(37):
        alone = algorithm.fuse(credit, labelled.outputs[r : r + 1], labelled.awake[r : r + 1])
        assert (alone[0] == fused[r]).all()


@even_in_order
def test_where_fusing_is_linear_it_is_the_fusers_linear_pool(name: str) -> None:
    algorithm = ALL[name](names(4))
    credit = algorithm.credit(trained(algorithm, name))
    labelled = batch(name, 50)
    fused = algorithm.fuse(credit, labelled.outputs, labelled.awake)
    pooled = linear_pool(labelled.outputs, algorithm.pool(credit, labelled.awake))
    assert algorithm.linear == (np.abs(fused - pooled).max() < 1e-12)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_fused_probabilities_are_probabilities(name: str) -> None:
    algorithm = CLASSIFIERS[name](names(4))
    credit = algorithm.credit(trained(algorithm, name))
    labelled = batch(name, 50)
    fused = algorithm.fuse(credit, labelled.outputs, labelled.awake)[labelled.awake.any(axis=1)]
    assert (fused >= 0).all()
    assert np.abs(fused.sum(axis=1) - 1).max() < 1e-12


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_unit_a_million_times_smaller_leaves_the_weights(name: str) -> None:
    algorithm = REGRESSORS[name](names(4))
    everyone = np.ones((1, 4), np.bool_)
    for rows in (1, 7, 60):
        small, large = trained(algorithm, name, rows), trained(algorithm, name, rows, scale=1e6)
        difference = algorithm.pool(algorithm.credit(small), everyone) - algorithm.pool(
            algorithm.credit(large), everyone
        )
        assert np.abs(difference).max() <= 1e-9


@every_algorithm
def test_identical_members_weigh_the_same_and_teach_nothing_about_each_other(name: str) -> None:
    algorithm = ALGORITHMS[name](("a", "b"))
    labelled = batch(name, 40, 1, missing=0.0)
    labelled.outputs = np.repeat(labelled.outputs, 2, axis=1)
    labelled.awake = np.repeat(labelled.awake, 2, axis=1)
    taught = algorithm.increments(algorithm.credit(algorithm.merge([])), labelled)
    for array, rows in taught.sums.items():
        if not array.startswith("top/") and array not in COUNTS:
            assert (rows == 0).all(), array


@even_in_order
def test_a_single_member_has_all_the_weight_and_no_regret(name: str) -> None:
    algorithm = ALL[name](("only",))
    part = trained(algorithm, name, 30, missing=0.0)
    assert algorithm.pool(algorithm.credit(part), np.ones((1, 1), np.bool_)) == pytest.approx(1.0, abs=1e-15)
    for array, values in part.sums.items():
        if not array.startswith("top/") and array not in COUNTS:
            assert (values == 0).all(), array


@every_algorithm
def test_a_label_from_far_behind_the_clock_counts_by_its_age(name: str) -> None:
    algorithm = ALGORITHMS[name](names(4))
    ahead = batch(name, 5, clock=1e15)
    part = learned(algorithm, ahead, batch(name, 5, seed=1, clock=0.0))
    assert part.clock == 1e15
    alone = learned(algorithm, ahead)
    for array, values in part.sums.items():
        assert np.isfinite(values).all()
        if algorithm.half_lives.get(array) is not None:
            assert (values == alone.sums[array]).all(), array
    assert np.isfinite(algorithm.credit(part)).all()
