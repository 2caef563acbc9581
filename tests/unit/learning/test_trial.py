"""The records of members in shadow: what a label adds, and whom they admit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stream_ensemble.core.learning.additive import Additive
from stream_ensemble.core.learning.algorithm import Labelled, Trials
from stream_ensemble.core.learning.bank import Bank
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.losses import Absolute, Loss, Square
from stream_ensemble.core.learning.membership import WARM_LABELS
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.core.learning.trial import FRACTIONS, Record, WithTrials, earned, record_of

MEMBERS = ("a", "b", "s")
SHARE = 0.1
FORGETS_NOTHING: list[Any] = [MLPoly, Bank]


def tried(kind: Any = MLPoly) -> WithTrials[Any]:
    return WithTrials(kind(MEMBERS), SHARE)


def labelled(
    rng: np.random.Generator, count: int, shadow: NDArray[np.float64] | None = None, *, present: float = 1.0
) -> Labelled:
    """Requests of which a and b know something; s is in shadow."""
    labels = rng.integers(0, 3, count)
    outputs = rng.dirichlet(np.ones(3), (count, 3))
    outputs[:, :2] = 0.6 * outputs[:, :2] + 0.4 * np.eye(3)[labels][:, None]
    said = np.zeros((count, 3, 3))
    said[:, 2] = outputs[:, 2] if shadow is None else shadow
    outputs[:, 2] = 0.0
    awake = np.tile([True, True, False], (count, 1))
    there = np.zeros((count, 3), np.bool_)
    there[:, 2] = rng.random(count) < present
    return Labelled(outputs, awake, labels, np.ones(count), 0.0, trials=Trials(said, there))


def learned(algorithm: Additive[Any], one: Labelled) -> Contribution:
    part = Contribution(algorithm.members)
    algorithm.learn(part, algorithm.credit(algorithm.merge([])), one)
    return part


@pytest.mark.parametrize("kind", FORGETS_NOTHING)
def test_a_record_is_what_the_losses_say_label_by_label(kind: Any) -> None:
    one = labelled(np.random.default_rng(1), 40, present=0.7)
    algorithm = tried(kind)
    part = learned(algorithm, one)
    credit = algorithm.credit(algorithm.merge([]))
    n = own = mixture = gain = 0.0
    bets = [0.0] * len(FRACTIONS)
    assert one.trials is not None
    for r, label in enumerate(one.labels.tolist()):
        if not one.trials.present[r, 2]:
            continue
        fused = algorithm.fuse(credit, one.outputs[r : r + 1], one.awake[r : r + 1])[0, label]
        shadow = one.trials.outputs[r, 2, label]
        d = math.log((1 - SHARE) * fused + SHARE * shadow) - math.log(fused)
        n, own, mixture, gain = n + 1, own - math.log(shadow), mixture - math.log(fused), gain + d
        for i, f in enumerate(FRACTIONS):
            bets[i] += math.log(1 + f * d / -math.log(1 - SHARE))
    found = record_of(part, "s", SHARE)
    assert found is not None
    evidence = sum(map(math.exp, bets)) / len(bets)
    assert found == pytest.approx((n, own / n, mixture / n, gain / n, evidence))
    assert record_of(part, "a", SHARE) is None
    assert record_of(part, "s", 0.2) is None


@pytest.mark.parametrize("kind", FORGETS_NOTHING)
def test_members_learn_the_same_bits_whatever_a_shadow_says(kind: Any) -> None:
    one = labelled(np.random.default_rng(2), 30)
    without = learned(kind(MEMBERS), one)
    with_it = learned(tried(kind), one)
    for name, array in without.sums.items():
        np.testing.assert_array_equal(with_it.sums[name], array)
    for name, array in without.maxima.items():
        np.testing.assert_array_equal(with_it.maxima[name], array)


def test_without_a_shadow_nothing_is_added() -> None:
    one = labelled(np.random.default_rng(3), 5)
    one.trials = None
    assert learned(tried(), one).sums.keys() == learned(MLPoly(MEMBERS), one).sums.keys()


def test_order_and_taking_back_make_no_difference() -> None:
    rng = np.random.default_rng(4)
    one = labelled(rng, 50)
    algorithm = tried(Bank)
    credit = algorithm.credit(algorithm.merge([]))
    whole = learned(algorithm, one)
    parts = []
    for rows in np.array_split(rng.permutation(50), 7):
        assert one.trials is not None
        some = Labelled(
            one.outputs[rows],
            one.awake[rows],
            one.labels[rows],
            np.ones(len(rows)),
            0.0,
            trials=Trials(one.trials.outputs[rows], one.trials.present[rows]),
        )
        part = Contribution(MEMBERS)
        for sign in (1.0, -1.0, 1.0):
            some.scale = np.full(len(rows), sign)
            algorithm.learn(part, credit, some)
        parts.append(part)
    merged = algorithm.merge(parts)
    for name in (name for name in whole.sums if name.startswith("trial")):
        np.testing.assert_allclose(merged.sums[name], whole.sums[name], rtol=0, atol=1e-11)


def test_nobody_awake_and_hostile_outputs_leave_finite_sums() -> None:
    one = labelled(np.random.default_rng(5), 4, np.array([1.0, 0.0, 0.0]))
    one.awake[0] = False
    one.outputs[0] = 0.0
    one.outputs[1, :2] = [0.0, 0.0, 1.0]
    one.labels[:] = [0, 0, 1, 2]
    part = learned(tried(Bank), one)
    assert all(np.isfinite(array).all() for array in part.sums.values())
    found = record_of(part, "s", SHARE)
    assert found is not None
    assert found.labels == 3.0
    # What it can lose by a label is bounded by the share it is tried at, its own loss is not.
    assert found.gain * 3 <= 34.6
    assert found.own > 10


def test_one_who_knows_is_admitted_and_noise_almost_never() -> None:
    """By Ville's inequality at most a share ``error`` of those that never help is ever admitted."""
    error, runs, admitted = 0.05, 120, 0
    algorithm = tried()
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        count = 400
        labels = rng.integers(0, 2, count)
        # The mixture is as sure as it should be (0.7); noise around it has nothing to add.
        right = rng.random(count) < 0.7
        outputs = np.full((count, 3, 2), 0.3)
        outputs[np.arange(count), :2, np.where(right, labels, 1 - labels)] = 0.7
        noise = np.clip(outputs[:, 0] + rng.choice([-0.2, 0.2], count)[:, None] * [1, -1], 0.01, 0.99)
        said = np.zeros((count, 3, 2))
        said[:, 2] = noise
        awake = np.tile([True, True, False], (count, 1))
        there = ~awake
        ever = False
        part = Contribution(MEMBERS)
        for begin in range(0, count, 20):
            rows = slice(begin, begin + 20)
            some = Labelled(
                outputs[rows] * awake[rows][..., None],
                awake[rows],
                labels[rows],
                np.ones(20),
                0.0,
                trials=Trials(said[rows], there[rows]),
            )
            algorithm.learn(part, algorithm.credit(algorithm.merge([])), some)
            ever |= earned(record_of(part, "s", SHARE), 1.0, error)
        admitted += ever
    assert admitted <= 2 * error * runs
    rng = np.random.default_rng(9)
    one = labelled(rng, 200)
    assert one.trials is not None
    one.trials.outputs[:, 2] = 0.2 / 2
    one.trials.outputs[np.arange(200), 2, one.labels] = 0.8
    assert earned(record_of(learned(algorithm, one), "s", SHARE), 200.0, 0.01)
    assert not earned(record_of(learned(algorithm, one), "s", SHARE), 201.0, 0.01)


def test_evidence_of_a_million_good_labels_is_still_a_number() -> None:
    part = Contribution(("s",))
    part.sums = {f"trial@0.1/{of}": np.array([1e6]) for of in ("n", "own", "mixture", "gain")}
    part.sums |= {f"trial@0.1/bet{i}": np.array([1e5]) for i in range(len(FRACTIONS))}
    found = record_of(part, "s", 0.1)
    assert found is not None
    assert math.isfinite(found.evidence)
    assert not earned(None, 1.0, 0.01)
    assert earned(Record(10.0, 0, 0, 0, 100.0), 10.0, 0.01)


def test_labels_of_a_warm_start_are_counted_for_who_was_awake() -> None:
    one = labelled(np.random.default_rng(6), 3)
    one.trials = None
    one.warm = np.array([[True, False, True]] * 3)
    part = learned(tried(), one)
    assert part.sums[WARM_LABELS].tolist() == [3.0, 0.0, 0.0]


def forecasts(rng: np.random.Generator, count: int, off: float, scale: float = 1.0) -> Labelled:
    """Numbers that a and b miss by 1 or so on the same side, and the shadow by ``off``."""
    labels = rng.normal(0, 3, count) * scale
    outputs = np.zeros((count, 3, 1))
    outputs[:, :2, 0] = labels[:, None] + rng.uniform(0.5, 1.5, (count, 2)) * scale
    said = np.zeros((count, 3, 1))
    said[:, 2, 0] = labels + rng.normal(0, off, count) * scale
    there = np.tile([False, False, True], (count, 1))
    awake = np.tile([True, True, False], (count, 1))
    return Labelled(outputs, awake, labels, np.ones(count), 0.0, trials=Trials(said, there))


def record_under(loss: Loss, one: Labelled) -> Record:
    found = record_of(learned(WithTrials(Bank(MEMBERS, loss), SHARE), one), "s", SHARE)
    assert found is not None
    return found


@pytest.mark.parametrize("loss", [Absolute(), Square()])
def test_a_shadow_that_betters_a_forecast_is_admitted_on_any_scale_and_one_that_does_not_is_not(
    loss: Loss,
) -> None:
    for scale in (1e-9, 1.0, 1e9):
        better = record_under(loss, forecasts(np.random.default_rng(5), 400, 0.3, scale))
        worse = record_under(loss, forecasts(np.random.default_rng(5), 400, 30.0, scale))
        assert earned(better, 200, 0.01) and better.gain > 0, better
        assert not earned(worse, 200, 0.01) and worse.gain < 0, worse


@pytest.mark.parametrize("loss", [Absolute(), Square()])
def test_bets_on_a_forecast_lose_no_more_than_all(loss: Loss) -> None:
    one = forecasts(np.random.default_rng(6), 50, 0.5)
    assert one.trials is not None
    one.trials.outputs[::2] = 1e100
    one.trials.outputs[1::4] = one.labels[1::4, None, None]
    one.outputs[::5, :2, 0] = one.labels[::5, None]
    record = record_under(loss, one)
    assert all(math.isfinite(number) for number in record)
    assert 0 <= record.evidence < 1


@pytest.mark.parametrize("loss", [Absolute(), Square()])
def test_chance_seldom_admits_to_a_forecast(loss: Loss) -> None:
    """Noise on both sides of a mixture that is right in the mean gains nothing: error .05, 200 tries."""
    rng = np.random.default_rng(7)
    admitted = 0
    for _ in range(200):
        one = forecasts(rng, 150, 0.0)
        noise = rng.normal(0, 1, (150, 2))
        one.outputs[:, :2, 0] = one.labels[:, None] + noise[:, :1]
        assert one.trials is not None
        one.trials.outputs[:, 2, 0] = one.labels + noise[:, 0] + rng.normal(0, 3, 150)
        admitted += earned(record_under(loss, one), 1, 0.05)
    assert admitted <= 200 * 0.05
