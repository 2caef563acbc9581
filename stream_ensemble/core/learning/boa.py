"""BOA, Bernstein online aggregation, with a learning rate per member that it sets itself.

``w_i ~ eta_i exp(eta_i L_i)`` with ``eta_i = min(1 / E_i, sqrt(ln K / V_i))``, V the sum of squared regrets
and E the largest regret so far, rounded up to a power of two. Each label adds
``(r - eta r^2 + E [eta r > 1/2]) / 2`` to L, at the eta after it: what came before decides what it adds, so
it is **not order-free**. Regret against the best member: ``O(sqrt(V_i ln K) + E_i ln K)``, with high
probability also in expected loss. A scale of the loss cancels only where it is a power of two.

References:
    Wintenberger (2017), Optimal learning with Bernstein online aggregation, Machine Learning 106; the form
    of the R package opera (Gaillard, Goude).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.contribution import Contribution, Vector, merged
from stream_ensemble.core.learning.losses import LogLoss, Loss, regrets
from stream_ensemble.core.learning.pooling import mean_of, over_awake
from stream_ensemble.errors import StateError

Floats = NDArray[np.float64]


class BOA:
    """BOA over K members; credit is K weights, the largest 1.

    Args:
        floor: share of the weight spread evenly over the awake.
        loss: of the fused output.
    """

    name = "boa"
    order_free = False
    linear = True

    def __init__(self, members: tuple[str, ...], floor: float = 0.0, loss: Loss | None = None) -> None:
        self.members = members
        self._floor = floor
        self.loss = loss or LogLoss()

    def merge(self, parts: Sequence[Contribution]) -> Contribution:
        """See ``Algorithm``.

        Raises:
            StateError: more than one has learned; the order among their labels is lost.
        """
        taught = [part for part in parts if part.sums]
        if len(taught) > 1:
            raise StateError(f"boa is not order-free: {len(taught)} contributions cannot be merged")
        return merged(parts, self.members, {})

    def credit(self, whole: Contribution) -> Vector:
        """See ``Algorithm``."""
        absent = np.zeros(len(self.members))
        rate = self._rates(whole.sums.get("V", absent), whole.maxima.get("B", absent))
        # Whoever has no rate yet has learned nothing: it stands as with the smallest rate there is.
        known = rate > 0
        rate = np.where(known, rate, rate[known].min() if known.any() else 1.0)
        logits = np.log(rate) + rate * whole.sums.get("L", absent)
        result: Vector = np.exp(logits - logits.max(initial=-np.inf))
        return result

    def pool(self, credit: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``."""
        return over_awake(credit, awake, self._floor)

    def fuse(self, credit: Floats, outputs: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``."""
        return mean_of(outputs, self.pool(credit, awake))

    def learn(self, part: Contribution, credit: Vector, labelled: Labelled) -> None:
        """See ``Algorithm``; in the order of the rows.

        Raises:
            StateError: a label is to be taken back.
        """
        if (labelled.scale < 0).any():
            raise StateError("boa is not order-free: it cannot take a label back")
        points = self.loss.points(labelled.outputs, labelled.labels)
        weights = self.pool(credit, labelled.awake)[:, None]
        rows = regrets(self.loss, points, weights, labelled.awake, labelled.labels)[:, 0]
        absent = np.zeros(len(part.members))
        L, V, B = (part.sums.get("L", absent), part.sums.get("V", absent), part.maxima.get("B", absent))
        L, V, B = L.copy(), V.copy(), B.copy()
        k = len(self.members)
        for r, scale in zip(rows, labelled.scale, strict=True):
            V[:k] += scale * r * r
            B[:k] = np.maximum(B[:k], np.abs(r))
            rate = self._rates(V[:k], B[:k])
            L[:k] += scale * 0.5 * (r - rate * r * r + _power_above(B[:k]) * (rate * r > 0.5))
        part.sums |= {"L": L, "V": V}
        part.maxima["B"] = B
        part.clock = max(part.clock, labelled.clock)

    @staticmethod
    def _rates(V: Vector, B: Vector) -> Vector:
        """``min(1 / E, sqrt(ln K / V))``; 0 where nothing was learned. Alone, a member needs no rate."""
        there = (V > 0) & (B > 0)
        spread = np.sqrt(np.log(max(len(V), 2)) / np.where(there, V, 1.0))
        return np.where(there, np.minimum(1.0 / np.where(there, _power_above(B), 1.0), spread), 0.0)


def _power_above(B: Vector) -> Vector:
    """The next power of two at or above; 0 stays 0."""
    share, exponent = np.frexp(B)
    return np.where(B > 0, np.ldexp(1.0, np.where(share == 0.5, exponent - 1, exponent)), 0.0)
