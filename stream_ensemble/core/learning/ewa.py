"""Exponentially weighted average (Hedge): ``w_i ~ exp(rate R_i)`` with R_i the sum of ``l - l_i``.

The losses are the members' own, l being their weighted mean, so that a sleeping member neither gains nor
loses. Regret against the best member: ``ln K / rate + rate T / 8`` for losses in [0, 1]. The rate has the
unit of one over the loss, nothing is forgotten, and under delay it collapses onto one member: for comparison.
Order-free.

References:
    Littlestone, Warmuth (1994), The weighted majority algorithm; Freund, Schapire (1997), A
    decision-theoretic generalization of on-line learning; with sleeping members Freund, Schapire, Singer,
    Warmuth (1997), Using and combining predictors that specialize. River's ``EWARegressor`` is the tests'
    oracle.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.additive import AdditiveMean, Floats, Increments
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.losses import LogLoss, Loss, own_regrets
from stream_ensemble.core.learning.pooling import over_awake


class EWA(AdditiveMean):
    """EWA over K members; credit is K weights, the largest 1.

    Args:
        rate: how fast weights follow the losses, per unit of loss.
        floor: share of the weight spread evenly over the awake.
        loss: of an output.
    """

    name = "ewa"

    def __init__(
        self, members: tuple[str, ...], rate: float, floor: float = 0.0, loss: Loss | None = None
    ) -> None:
        self.members = members
        self.half_lives = {}
        self._rate = rate
        self._floor = floor
        self.loss = loss or LogLoss()

    def credits(self, sums: Mapping[str, Floats], maxima: Mapping[str, Floats]) -> Floats:
        """See ``Additive``."""
        R = sums.get("R", np.zeros(len(self.members)))
        result: Floats = np.exp(self._rate * (R - R.max(axis=-1, keepdims=True)))
        return result

    def pool(self, credit: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``."""
        return over_awake(credit, awake, self._floor)

    def taught(self, mixing: Floats, labelled: Labelled) -> Increments:
        """See ``Additive``."""
        r = own_regrets(self.loss, labelled.outputs, mixing, labelled.awake, labelled.labels)
        return Increments({"R": r}, {})
