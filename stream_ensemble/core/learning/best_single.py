"""The member that has done best so far takes all: follow the leader, for comparison.

Each is scored by the sum of ``mean loss of the awake - own loss``, so a sleeping member neither gains nor
loses.
No regret bound: it may change its mind every time. Order-free.

References:
    Kalai, Vempala (2005), Efficient algorithms for online decision problems (follow the leader).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.additive import AdditiveMean, Floats, Increments
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.losses import LogLoss, Loss, own_regrets
from stream_ensemble.core.learning.pooling import over_awake


class BestSingle(AdditiveMean):
    """Follow the leader over K members; credit is their scores.

    Args:
        half_life: labels until an old one counts half; None: never.
        loss: of an output.
    """

    name = "best_single"

    def __init__(
        self, members: tuple[str, ...], half_life: float | None = None, loss: Loss | None = None
    ) -> None:
        self.members = members
        self.half_lives = {"R": half_life}
        self.loss = loss or LogLoss()

    def credits(self, sums: Mapping[str, Floats], maxima: Mapping[str, Floats]) -> Floats:
        """See ``Additive``."""
        return sums.get("R", np.zeros(len(self.members)))

    def pool(self, credit: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``; equals share."""
        scores = np.where(awake, credit, -np.inf)
        leads = awake & (scores == scores.max(axis=-1, keepdims=True))
        return over_awake(leads.astype(np.float64), awake, 0.0)

    def taught(self, mixing: Floats, labelled: Labelled) -> Increments:
        """See ``Additive``."""
        awake = labelled.awake
        even = awake / np.maximum(awake.sum(axis=1, keepdims=True), 1)
        r = own_regrets(self.loss, labelled.outputs, even, awake, labelled.labels)
        return Increments({"R": r}, {})
