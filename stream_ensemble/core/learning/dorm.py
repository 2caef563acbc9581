"""DORM: regret matching that adds a guess of the regrets still on their way.

``w_i ~ max(R_i + h_i, 0)`` with R the sum of the regrets that arrived and h a hint of those that did not: the
labels on their way times the mean of the last regrets, a mean that forgets with a half-life, so it is a
quotient of two sums. No learning rate; a scale of the loss cancels. Regret against the best member: of the
order of the square root of ``sum_t |what is missing at t - h_t|^2``, so a good hint makes up for the delay.
Order-free.

References:
    Flaspohler, Orabona, Cohen, Mouatadid, Oprescu, Orenstein, Mackey (2021), Online learning with optimism
    and delay, ICML: DORM with q = 2; hints of their kind "mean of the recent".
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.additive import AdditiveMean, Floats, Increments
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.losses import LogLoss, Loss, regrets
from stream_ensemble.core.learning.pooling import over_awake


class DORM(AdditiveMean):
    """DORM over K members; credit is K weights, unnormalised.

    Args:
        missing: labels on their way whenever a request is answered, itself counted: delay + 1.
        half_life: labels until an old one counts half in the hint.
        floor: share of the weight spread evenly over the awake.
        loss: of the fused output.
    """

    name = "dorm"

    def __init__(
        self,
        members: tuple[str, ...],
        missing: float = 1.0,
        half_life: float = 50.0,
        floor: float = 0.01,
        loss: Loss | None = None,
    ) -> None:
        self.members = members
        self.half_lives = {"recent": half_life, "seen": half_life}
        self._missing = missing
        self._floor = floor
        self.loss = loss or LogLoss()

    def credits(self, sums: Mapping[str, Floats], maxima: Mapping[str, Floats]) -> Floats:
        """See ``Additive``."""
        absent = np.zeros(len(self.members))
        R, recent, seen = (sums.get(name, absent) for name in ("R", "recent", "seen"))
        # A member that slept for thirty half-lives has no recent regrets.
        there = seen > 1e-9
        hint = np.where(there, recent, 0.0) / np.where(there, seen, 1.0) * self._missing
        result: Floats = np.maximum(R + hint, 0.0)
        return result

    def pool(self, credit: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``."""
        return over_awake(credit, awake, self._floor)

    def taught(self, mixing: Floats, labelled: Labelled) -> Increments:
        """See ``Additive``."""
        points = self.loss.points(labelled.outputs, labelled.labels)
        r = regrets(self.loss, points, mixing[:, None], labelled.awake, labelled.labels)[:, 0]
        return Increments({"R": r, "recent": r, "seen": labelled.awake.astype(np.float64)}, {})
