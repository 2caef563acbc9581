"""A state of an algorithm for a person: how each arm weights the members, and on what grounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_ensemble.core.learning.algorithm import Algorithm
from stream_ensemble.core.learning.bank import Bank
from stream_ensemble.core.learning.beside import innermost
from stream_ensemble.core.learning.contribution import PER_ARM, Contribution, Vector

#: The one arm of an algorithm that has no others.
ONLY = "all"


@dataclass(frozen=True, slots=True)
class ArmStanding:
    """One arm of an algorithm over K members, everyone awake.

    Attributes:
        name: ``ONLY`` where the algorithm has one arm.
        share: its weight among the arms.
        regret, spread: R and V of the arm itself: how much better than the issued answer it would have been,
            summed over labels, and the sum of the squares of that. None: nobody learns it.
        weights: K; the members' in this arm.
        regrets, spreads: R and V of each member against this arm. None: nobody learns them.
    """

    name: str
    share: float
    regret: float | None
    spread: float | None
    weights: Vector
    regrets: Vector | None
    spreads: Vector | None


def explained(algorithm: Algorithm, whole: Contribution) -> list[ArmStanding]:
    """The arms of ``algorithm`` at ``whole``, which was merged by it."""
    algorithm = innermost(algorithm)
    credit = algorithm.credit(whole)
    everyone = np.ones((1, len(algorithm.members)), np.bool_)
    if isinstance(algorithm, Bank):
        return _of_bank(algorithm, whole, credit)
    weights = algorithm.pool(credit, everyone)[0]
    regrets, spreads = (_array(whole, name, len(weights)) if whole.sums else None for name in "RV")
    return [ArmStanding(ONLY, 1.0, None, None, weights, regrets, spreads)]


def _of_bank(bank: Bank, whole: Contribution, credit: Vector) -> list[ArmStanding]:
    k = len(bank.members)
    weights, shares = bank.levels(credit, np.ones((1, k), np.bool_))
    learning = {arm.name for arm in bank.arms}
    found = []
    for j, name in enumerate(bank.arm_names):
        regret, spread = _array(whole, PER_ARM + name, 2)
        regrets, spreads = (
            _array(whole, f"{name}/{letter}", k) if name in learning else None for letter in "RV"
        )
        share = float(shares[0, j])
        found.append(ArmStanding(name, share, float(regret), float(spread), weights[0, j], regrets, spreads))
    return found


def _array(whole: Contribution, name: str, length: int) -> Vector:
    return whole.sums.get(name, np.zeros(length))
