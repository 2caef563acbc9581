"""The algorithm that a name stands for, and that of the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_ensemble.config import Learning, Task
from stream_ensemble.core.learning.ada_normal_hedge import AdaNormalHedge
from stream_ensemble.core.learning.additive import Additive
from stream_ensemble.core.learning.algorithm import Algorithm
from stream_ensemble.core.learning.bank import Bank
from stream_ensemble.core.learning.best_single import BestSingle
from stream_ensemble.core.learning.boa import BOA
from stream_ensemble.core.learning.calibration import Calibrated
from stream_ensemble.core.learning.contribution import Vector
from stream_ensemble.core.learning.dorm import DORM
from stream_ensemble.core.learning.ewa import EWA
from stream_ensemble.core.learning.fixed import Fixed
from stream_ensemble.core.learning.guardrail import WithLosses
from stream_ensemble.core.learning.losses import Loss
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.core.learning.softmax_gradient import SoftmaxGradient
from stream_ensemble.core.learning.trial import WithTrials
from stream_ensemble.core.learning.uniform import uniform
from stream_ensemble.core.tasks.choose import domain_of
from stream_ensemble.errors import SettingsError

#: The step length where none is given: measured under log loss, see benchmarks/learning.
DEFAULT_RATE = 0.05

#: Those that no label moves: a segment of theirs would be the whole.
LEARN_NOTHING = frozenset({"uniform", "fixed"})
#: Those that depend on the scale of the loss.
NEEDS_LOG_LOSS = frozenset({"ewa", "softmax_gradient", "ada_normal_hedge"})
#: Those that a live ensemble is refused, and why.
ORDER_DEPENDENT = frozenset({"boa"})
NEEDS_ORDER = (
    "its weights depend on the order of the labels, which several partitions, late labels and corrections do "
    "not keep; it is for `stream-ensemble backtest`, a live ensemble needs bank, ml_poly or another "
    "order-free algorithm"
)


@dataclass(frozen=True, slots=True)
class Options:
    """What algorithms can be told; each takes what it knows.

    Attributes:
        half_life: labels until an old one counts half, for ml_poly and best_single.
        floor: share of the weight spread evenly over the awake.
        rate: step length of ewa and softmax_gradient, per unit of loss.
        weights: of every member, for fixed.
        missing: labels on their way whenever a request is answered, for dorm.
    """

    half_life: float | None = 500.0
    floor: float = 0.01
    rate: float = DEFAULT_RATE
    weights: Mapping[str, float] | None = None
    missing: float = 1.0


_Make = Callable[[tuple[str, ...], Loss, Options], Algorithm]

ALGORITHMS: Mapping[str, _Make] = {
    "bank": lambda members, loss, o: Bank(members, loss, floor=o.floor),
    "ml_poly": lambda members, loss, o: MLPoly(members, o.half_life, o.floor, loss),
    "ewa": lambda members, loss, o: EWA(members, o.rate, loss=loss),
    "ada_normal_hedge": lambda members, loss, o: AdaNormalHedge(members, o.floor, loss),
    "softmax_gradient": lambda members, loss, o: SoftmaxGradient(members, o.rate, loss),
    "best_single": lambda members, loss, o: BestSingle(members, o.half_life, loss),
    "uniform": lambda members, loss, o: uniform(members),
    "fixed": lambda members, loss, o: Fixed(members, _given(members, o.weights or {})),
    "boa": lambda members, loss, o: BOA(members, loss=loss),
    "dorm": lambda members, loss, o: DORM(members, o.missing, floor=o.floor, loss=loss),
}


def named(name: str, members: tuple[str, ...], loss: Loss, options: Options) -> Algorithm:
    """The algorithm of this name over K members.

    Raises:
        SettingsError: there is none.
    """
    if name not in ALGORITHMS:
        raise SettingsError(f"algorithm {name!r}: expected one of {', '.join(ALGORITHMS)}")
    return ALGORITHMS[name](members, loss, options)


def make(learning: Learning, task: Task, members: tuple[str, ...]) -> Additive[Any]:
    """The algorithm of these settings for K members, for a live ensemble.

    Raises:
        SettingsError: the settings name an algorithm that is not there, or one that is not order-free: a
            live ensemble learns labels in groups, in several partitions, and takes them back.
    """
    loss = domain_of(task).loss
    options = Options(learning.half_life, learning.floor, weights=learning.weights)
    try:
        algorithm = named(learning.algorithm, members, loss, options)
    except SettingsError as error:
        raise SettingsError(f"learning.{error}") from None
    if not isinstance(algorithm, Additive):
        raise SettingsError(f"learning.algorithm = {algorithm.name!r}: {NEEDS_ORDER}")
    algorithm = WithTrials(algorithm, learning.admission.share)
    if learning.calibration:
        algorithm = Calibrated(algorithm)
    if learning.guardrail.enabled:
        return WithLosses(algorithm, learning.guardrail.half_life)
    return algorithm


def _given(members: tuple[str, ...], weights: Mapping[str, float]) -> Vector:
    return np.array([weights.get(name, 0.0) for name in members], np.float64)
