"""AdaNormalHedge: a potential of regret and its total size, without a learning rate.

``w_i ~ Phi(R_i + 1, C_i + 1) - Phi(R_i - 1, C_i + 1)`` with ``Phi(R, C) = exp(max(R, 0)^2 / 3C)``, R the sum
of regrets and C of their absolute values, both in units of the largest regret seen (a maximum), so that the
loss's scale cancels. Regret against any mixture u of members: ``O(sqrt(sum_i u_i C_i RE(u || prior)))``.
Order-free.

References:
    Luo, Schapire (2015), Achieving all with no parameters: AdaNormalHedge, COLT.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.additive import AdditiveMean, Floats, Increments
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.losses import LogLoss, Loss, regrets
from stream_ensemble.core.learning.pooling import over_awake


class AdaNormalHedge(AdditiveMean):
    """AdaNormalHedge over K members; credit is K weights, unnormalised.

    Args:
        floor: share of the weight spread evenly over the awake.
        loss: of the fused output.
    """

    name = "ada_normal_hedge"

    def __init__(self, members: tuple[str, ...], floor: float = 0.01, loss: Loss | None = None) -> None:
        self.members = members
        self.half_lives = {}
        self._floor = floor
        self.loss = loss or LogLoss()

    def credits(self, sums: Mapping[str, Floats], maxima: Mapping[str, Floats]) -> Floats:
        """See ``Additive``."""
        absent = np.zeros(len(self.members))
        R, C = sums.get("R", absent), sums.get("|r|", absent)
        # A label that was taken back without having been added leaves sums far beyond its maximum.
        far = np.maximum(np.abs(R), np.abs(C)).max(axis=-1, keepdims=True)
        unit = np.maximum(maxima.get("B", absent).max(axis=-1, keepdims=True), 1e-100 * far)
        unit = np.where(unit > 0, unit, 1.0)
        R, C = R / unit, np.maximum(C / unit, 0.0)
        upper = np.maximum(R + 1, 0.0) ** 2 / (3 * (C + 1))
        lower = np.maximum(R - 1, 0.0) ** 2 / (3 * (C + 1))
        # The difference of two potentials, with the largest taken out so that none overflows.
        result: Floats = np.exp(upper - upper.max(axis=-1, keepdims=True)) * -np.expm1(lower - upper)
        return result

    def pool(self, credit: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``."""
        return over_awake(credit, awake, self._floor)

    def taught(self, mixing: Floats, labelled: Labelled) -> Increments:
        """See ``Additive``."""
        points = self.loss.points(labelled.outputs, labelled.labels)
        r = regrets(self.loss, points, mixing[:, None], labelled.awake, labelled.labels)[:, 0]
        return Increments({"R": r, "|r|": np.abs(r)}, {"B": np.abs(r)})
