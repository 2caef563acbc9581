"""ML-Poly against the published figures of the R package opera, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.backtest import Stream, play
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.fixed import Fixed
from stream_ensemble.core.learning.losses import Square
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.core.learning.schedule import delayed
from stream_ensemble.core.learning.uniform import uniform
from tests.unit.learning.batches import DATA, learned

EXPERTS = ("gam", "ar", "gbm")


def electric_load() -> Stream:
    """opera's weekly French electricity load: 112 rows of three experts."""
    with np.load(DATA / "opera_load.npz") as data:
        outputs, y = data["P"][..., None], data["y"]
    awake = np.ones(outputs.shape[:2], np.bool_)
    return Stream(outputs, awake, y, delayed(len(y), 0))


def rmse(losses: np.ndarray) -> float:
    return float(np.sqrt(losses.mean()))


def test_electric_load_as_in_opera() -> None:
    stream = electric_load()
    algorithm = MLPoly(EXPERTS, floor=0.0, loss=Square())
    assert round(rmse(play(stream, algorithm, Square()).losses), 6) == 1457.476154
    part = Contribution(EXPERTS)
    for r in range(112):
        row = slice(r, r + 1)
        one = Labelled(stream.outputs[row], stream.awake[row], stream.labels[row], np.ones(1), float(r))
        algorithm.learn(part, algorithm.credit(part), one)
    weights = algorithm.pool(algorithm.credit(part), np.ones((1, 3), np.bool_))[0]
    assert [round(float(w), 6) for w in weights] == [0.577114, 0.422886, 0.0]


def test_electric_load_with_fixed_weights_as_in_opera() -> None:
    stream = electric_load()
    assert round(rmse(play(stream, uniform(EXPERTS), Square()).losses), 4) == 1560.1697
    best = Fixed(EXPERTS, np.array([0.71917, 0.20088, 0.07995]))
    assert round(rmse(play(stream, best, Square()).losses), 4) == 1442.4276


def _two(truth: float, half_life: float | None, clock: float) -> Labelled:
    outputs = np.array([[[truth, 1 - truth], [1 - truth, truth]]])
    return Labelled(outputs, np.ones((1, 2), np.bool_), np.array([0]), np.ones(1), clock)


def test_sums_by_hand() -> None:
    part = learned(MLPoly(("a", "b")), _two(0.8, None, 0.0), _two(0.75, None, 0.0))
    np.testing.assert_allclose(part.sums["R"], [0.6 + 0.5, -0.6 - 0.5], rtol=1e-12)
    np.testing.assert_allclose(part.sums["V"], [0.36 + 0.25] * 2, rtol=1e-12)
    np.testing.assert_allclose(part.maxima["B"], [0.6, 0.6], rtol=1e-12)


def test_weights_by_hand() -> None:
    algorithm = MLPoly(("a", "b", "c"), floor=0.0)
    part = Contribution(
        ("a", "b", "c"),
        {"R": np.array([2.0, 1.0, -5.0]), "V": np.array([3.0, 0.0, 1.0])},
        {"B": np.array([0.5, 1.0, 0.2])},
    )
    weights = algorithm.pool(algorithm.credit(part), np.array([[True, True, True], [False, True, True]]))
    np.testing.assert_allclose(weights, [[1 / 3, 2 / 3, 0], [0, 1, 0]], rtol=1e-12)


def test_the_floor_is_shared_by_the_awake() -> None:
    algorithm = MLPoly(("a", "b", "c"), floor=0.3)
    weights = algorithm.pool(np.array([1.0, 0.0, 1.0]), np.array([[True, True, False]]))
    np.testing.assert_allclose(weights, [[0.85, 0.15, 0.0]], rtol=1e-12)


def test_everyone_alike_when_nobody_awake_beats_the_mixture() -> None:
    algorithm = MLPoly(("a", "b", "c"))
    weights = algorithm.pool(np.array([1.0, 0.0, 0.0]), np.array([[False, True, True]]))
    np.testing.assert_allclose(weights, [[0.0, 0.5, 0.5]], rtol=1e-12)


def test_a_half_life_later_a_label_counts_half_and_its_size_too() -> None:
    algorithm = MLPoly(("a", "b"), half_life=10.0)
    part = learned(algorithm, _two(0.8, 10.0, 0.0), _two(0.75, 10.0, 10.0))
    np.testing.assert_allclose(part.sums["R"], [0.3 + 0.5, -0.8], rtol=1e-12)
    np.testing.assert_allclose(part.sums["V"], [0.18 + 0.25] * 2, rtol=1e-12)
    np.testing.assert_allclose(part.maxima["B"], [0.5, 0.5], rtol=1e-12)
    assert part.clock == 10.0


def test_an_older_label_enters_by_its_age() -> None:
    algorithm = MLPoly(("a", "b"), half_life=10.0)
    newer_first = learned(algorithm, _two(0.75, 10.0, 10.0), _two(0.8, 10.0, 0.0))
    np.testing.assert_allclose(newer_first.sums["R"], [0.8, -0.8], rtol=1e-12)


def test_one_mistyped_label_is_forgotten() -> None:
    """A label of 1e9 among values around 100, squared loss: a hundred half-lives on it costs nothing."""
    rng = np.random.default_rng(0)
    y = rng.normal(100, 10, 2500)
    outputs = (y[:, None] + rng.normal(0, 1, (2500, 3)) * [1, 3, 9])[..., None]
    awake = np.ones((2500, 3), np.bool_)
    typo = y.copy()
    typo[500] = 1e9
    algorithm = MLPoly(("a", "b", "c"), half_life=20.0, loss=Square())
    clean = play(Stream(outputs, awake, y, delayed(2500, 5)), algorithm, Square())
    spoiled = play(Stream(outputs, awake, typo, delayed(2500, 5)), algorithm, Square())
    assert spoiled.losses[600:1000].mean() > 1.3 * clean.losses[600:1000].mean()
    assert spoiled.losses[-500:].mean() < 1.02 * clean.losses[-500:].mean()


def test_members_may_change_places_even_where_there_was_one() -> None:
    alone = learned(MLPoly(("a",)), _one_sided())
    assert alone.maxima["B"].shape == (1,)
    whole = MLPoly(("b", "a")).merge([alone])
    assert whole.maxima["B"].shape == whole.sums["R"].shape == (2,)


def _one_sided() -> Labelled:
    return Labelled(np.array([[[0.5, 0.5]]]), np.ones((1, 1), np.bool_), np.array([0]), np.ones(1), 0.0)


@pytest.mark.parametrize("half_life", [None, 50.0])
def test_a_label_of_weight_two_counts_twice(half_life: float | None) -> None:
    algorithm = MLPoly(("a", "b"), half_life)
    double = _two(0.8, half_life, 0.0)
    double.scale = np.array([2.0])
    twice = learned(algorithm, _two(0.8, half_life, 0.0), _two(0.8, half_life, 0.0))
    once = learned(algorithm, double)
    np.testing.assert_allclose(once.sums["R"], twice.sums["R"], rtol=1e-12)
    np.testing.assert_allclose(once.sums["V"], twice.sums["V"], rtol=1e-12)
