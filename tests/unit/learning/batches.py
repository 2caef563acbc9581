"""Labelled requests and algorithms for the tests of learning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.ada_normal_hedge import AdaNormalHedge
from stream_ensemble.core.learning.additive import Additive
from stream_ensemble.core.learning.algorithm import Algorithm, Labelled
from stream_ensemble.core.learning.bank import LINEAR_ARMS, Bank
from stream_ensemble.core.learning.best_single import BestSingle
from stream_ensemble.core.learning.boa import BOA
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.dorm import DORM
from stream_ensemble.core.learning.ewa import EWA
from stream_ensemble.core.learning.fixed import Fixed
from stream_ensemble.core.learning.losses import Absolute, Brier, Loss, Pinball, Square
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.core.learning.softmax_gradient import SoftmaxGradient
from stream_ensemble.core.learning.uniform import uniform

DATA = Path(__file__).parents[2] / "data"

Make = Callable[[tuple[str, ...]], Additive]

#: Algorithms over class probabilities.
CLASSIFIERS: dict[str, Make] = {
    "ml_poly": lambda members: MLPoly(members),
    "ml_poly, half-life 5": lambda members: MLPoly(members, half_life=5.0),
    "ml_poly, brier": lambda members: MLPoly(members, loss=Brier()),
    "bank": lambda members: Bank(members),
    "bank of means": lambda members: Bank(members, arms=LINEAR_ARMS),
    "ewa": lambda members: EWA(members, rate=0.3),
    "ada_normal_hedge": lambda members: AdaNormalHedge(members),
    "softmax_gradient": lambda members: SoftmaxGradient(members, rate=0.3),
    "best_single": lambda members: BestSingle(members, half_life=30.0),
    "dorm": lambda members: DORM(members, missing=20.0, half_life=5.0),
    "uniform": uniform,
    "fixed": lambda members: Fixed(members, np.arange(1.0, len(members) + 1)),
}

VALUE_LOSSES: dict[str, Loss] = {"square": Square(), "absolute": Absolute(), "pinball": Pinball((0.1, 0.5))}


def _regressors() -> dict[str, Make]:
    made: dict[str, Make] = {}
    for name, loss in VALUE_LOSSES.items():
        made[f"ml_poly, {name}"] = lambda members, loss=loss: MLPoly(members, 20.0, loss=loss)
        made[f"ada_normal_hedge, {name}"] = lambda members, loss=loss: AdaNormalHedge(members, loss=loss)
        made[f"best_single, {name}"] = lambda members, loss=loss: BestSingle(members, loss=loss)
        made[f"dorm, {name}"] = lambda members, loss=loss: DORM(members, 5.0, loss=loss)
        made[f"bank, {name}"] = lambda members, loss=loss: Bank(members, loss)
    return made


#: Algorithms over values: two numbers per output.
REGRESSORS = _regressors()
ALGORITHMS = CLASSIFIERS | REGRESSORS

#: Algorithms that need the labels in order.
IN_ORDER: dict[str, Callable[[tuple[str, ...]], Algorithm]] = {
    "boa": lambda members: BOA(members),
    "boa, square": lambda members: BOA(members, loss=Square()),
}

#: Arrays of DORM that count labels, whatever they say.
COUNTS = ("seen",)


def names(k: int) -> tuple[str, ...]:
    return tuple(f"m{i}" for i in range(k))


def batch(
    algorithm: Additive | str,
    rows: int,
    k: int = 4,
    *,
    seed: int = 0,
    clock: float = 0.0,
    missing: float = 0.3,
    scale: float = 1.0,
) -> Labelled:
    """Requests with labels; three classes, or two numbers. Members differ in skill."""
    rng = np.random.default_rng(seed)
    awake = rng.random((rows, k)) >= missing
    if algorithm in REGRESSORS or algorithm == "boa, square":
        labels: NDArray[np.float64] | NDArray[np.int64] = scale * rng.normal(10, 3, rows)
        noise = rng.normal(0, 1, (rows, k, 2)) * np.linspace(0.5, 3, k)[:, None]
        outputs = labels[:, None, None] + scale * noise
    else:
        labels = rng.integers(0, 3, rows)
        outputs = rng.dirichlet(np.ones(3), (rows, k))
        truth = np.eye(3)[labels][:, None]
        skill = np.linspace(0.7, 0.0, k)[:, None]
        outputs = (1 - skill) * outputs + skill * truth
    outputs = np.where(awake[..., None], outputs, 0.0)
    return Labelled(outputs, awake, labels, np.ones(rows), clock)


def rows_of(labelled: Labelled, which: NDArray[np.int64] | slice | list[int]) -> Labelled:
    return Labelled(
        labelled.outputs[which],
        labelled.awake[which],
        labelled.labels[which],
        labelled.scale[which],
        labelled.clock,
    )


def learned(algorithm: Additive, *batches: Labelled) -> Contribution:
    """What these batches teach, at the credit of nothing learned."""
    part = Contribution(algorithm.members)
    credit = algorithm.credit(algorithm.merge([]))
    for labelled in batches:
        algorithm.learn(part, credit, labelled)
        part.n += len(labelled.labels)
    return part


def trained(algorithm: Algorithm, name: str, rows: int = 60, **options: float) -> Contribution:
    """A state as it comes about: label after label, each at the credit of those before."""
    part = Contribution(algorithm.members)
    whole = batch(name, rows, len(algorithm.members), **options)  # type: ignore[arg-type]
    for r in range(rows):
        one = rows_of(whole, slice(r, r + 1))
        one.clock = float(r)
        algorithm.learn(part, algorithm.credit(part), one)
        part.n += 1
    return part


def sizes(algorithm: Additive, *batches: Labelled) -> dict[str, NDArray[np.float64]]:
    """By array, the sum of |increments|: what rounding is measured against."""
    credit = algorithm.credit(algorithm.merge([]))
    total: dict[str, NDArray[np.float64]] = {}
    for labelled in batches:
        for name, rows in algorithm.increments(credit, labelled).sums.items():
            size = (np.abs(labelled.scale)[:, None] * np.abs(rows)).sum(axis=0)
            total[name] = total.get(name, np.zeros(len(size))) + size
    return total


def assert_same_sums(a: Contribution, b: Contribution, size: dict[str, NDArray[np.float64]]) -> None:
    assert a.sums.keys() == b.sums.keys() == size.keys()
    for name, array in a.sums.items():
        assert (np.abs(array - b.sums[name]) <= 1e-12 * size[name]).all(), name
