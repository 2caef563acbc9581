"""ML-Poly: polynomially weighted averages with a learning rate per member and none to tune.

``w_i ~ max(R_i, 0) / (V_i + B^2)`` with R the sum of regrets, V of their squares and B the largest of all
members'. R and V are linear in the labels and B a maximum, hence order-free; a scale of the loss cancels.
Regret against the best member: ``O(sqrt(K V_i log(1 + V_i)))``, against the best fixed convex combination of
a convex loss the same by linearisation. With a half-life all three are discounted by the labels learned
since.

References:
    Gaillard, Stoltz, van Erven (2014), A second-order bound with excess losses, COLT; the R package opera
    (Gaillard, Goude).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.additive import AdditiveMean, Floats, Increments
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.losses import LogLoss, Loss, regrets
from stream_ensemble.core.learning.pooling import largest, over_awake


class MLPoly(AdditiveMean):
    """ML-Poly over K members; credit is K weights, unnormalised.

    Args:
        half_life: labels until an old one counts half; None: never.
        floor: share of the weight spread evenly over the awake, that no loss takes away.
        loss: of the fused output.
    """

    name = "ml_poly"

    def __init__(
        self,
        members: tuple[str, ...],
        half_life: float | None = None,
        floor: float = 0.01,
        loss: Loss | None = None,
    ) -> None:
        self.members = members
        self.half_lives = dict.fromkeys(("R", "V", "|r|", "B"), half_life)
        self._floor = floor
        self.loss = loss or LogLoss()

    def credits(self, sums: Mapping[str, Floats], maxima: Mapping[str, Floats]) -> Floats:
        """See ``Additive``; zeros when nobody has positive regret."""
        absent = np.zeros(len(self.members))
        return ml_poly_weights(sums.get("R", absent), sums.get("V", absent), maxima.get("B", absent))

    def pool(self, credit: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``."""
        return over_awake(credit, awake, self._floor)

    def taught(self, mixing: Floats, labelled: Labelled) -> Increments:
        """See ``Additive``."""
        points = self.loss.points(labelled.outputs, labelled.labels)
        r = regrets(self.loss, points, mixing[:, None], labelled.awake, labelled.labels)[:, 0]
        return Increments({"R": r, "V": r * r, "|r|": np.abs(r)}, {"B": np.abs(r)})


def ml_poly_weights(R: Floats, V: Floats, B: Floats) -> Floats:
    """``max(R, 0) / (V + max(B)^2)``, scaled to a maximum of 1. Shapes: ... x K each and result."""
    spread = V + largest(B) ** 2
    weights: Floats = np.maximum(R, 0.0)
    weights /= np.where(spread > 0, spread, np.inf)
    peak = largest(weights)
    weights /= np.where(peak > 0, peak, 1.0)
    return weights
