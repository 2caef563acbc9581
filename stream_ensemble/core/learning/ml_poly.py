"""ML-Poly: polynomially weighted averages with a learning rate per member and none to tune.

``w_i ~ max(R_i, 0) / (V_i + B^2)`` with R the sum of regrets, V of their squares and B the largest, all
linear in the labels (B a maximum), hence order-free. Regret: ``O(sqrt(T ln ln T))`` up to constants against
the best fixed convex combination of a convex,
Lipschitz loss. With a half-life the sums are discounted by the labels learned since.

References:
    Gaillard, Stoltz, van Erven (2014), A second-order bound with excess losses, COLT; the R package opera
    (Gaillard, Goude).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.contribution import Contribution, Vector, discount, merged
from stream_ensemble.core.learning.log_loss import regrets
from stream_ensemble.core.learning.pooling import over_awake

_REGRET, _SQUARES, _SIZE, _LARGEST = "R", "V", "|r|", "B"


class MLPoly:
    """ML-Poly over K members under log loss; credit is K weights, unnormalised.

    Args:
        half_life: labels until an old one counts half; None: never.
        floor: share of every awake member that no loss takes away.
    """

    name = "ml_poly"
    order_free = True

    def __init__(self, members: tuple[str, ...], half_life: float | None = None, floor: float = 0.01) -> None:
        self.members = members
        self._half_life = half_life
        self._floor = floor
        self._half_lives = {_REGRET: half_life, _SQUARES: half_life, _SIZE: half_life}

    def merge(self, parts: Sequence[Contribution]) -> Contribution:
        """See ``Algorithm``."""
        return merged(parts, self.members, self._half_lives)

    def credit(self, whole: Contribution) -> Vector:
        """``max(R, 0) / (V + B^2)`` per member, scaled to a maximum of 1; zeros when nobody has positive
        regret.
        """
        k = len(whole.members)
        positive = np.maximum(whole.sums.get(_REGRET, np.zeros(k)), 0.0)
        largest = whole.maxima.get(_LARGEST, np.zeros(1))
        spread = whole.sums.get(_SQUARES, np.zeros(k)) + largest[0] ** 2
        weights = np.where(positive > 0, positive / np.where(spread > 0, spread, 1.0), 0.0)
        peak = weights.max(initial=0.0)
        result: Vector = weights / peak if peak > 0 else weights
        return result

    def pool(self, credit: Vector, awake: NDArray[np.bool_]) -> NDArray[np.float64]:
        """See ``Algorithm``."""
        return over_awake(credit, awake, self._floor)

    def learn(self, part: Contribution, credit: Vector, labelled: Labelled) -> None:
        """See ``Algorithm``."""
        weights = self.pool(credit, labelled.awake)
        r = regrets(labelled.outputs, weights, labelled.awake, labelled.labels)
        k = r.shape[1]
        self._advance(part, labelled.clock)
        scale = labelled.scale[:, None] * discount(self._half_life, part.clock - labelled.clock)
        _add(part.sums, _REGRET, (scale * r).sum(axis=0), k)
        _add(part.sums, _SQUARES, (scale * r * r).sum(axis=0), k)
        _add(part.sums, _SIZE, (scale * np.abs(r)).sum(axis=0), k)
        # A maximum cannot be taken back: a correction leaves it.
        added = labelled.scale > 0
        largest = np.abs(r[added]).max(initial=0.0)
        held = part.maxima.get(_LARGEST, np.zeros(1))
        part.maxima[_LARGEST] = np.maximum(held, largest)

    def _advance(self, part: Contribution, clock: float) -> None:
        """Bring the discounted sums to a newer clock."""
        if clock <= part.clock:
            return
        if self._half_life is not None:
            factor = discount(self._half_life, clock - part.clock)
            for name in (_REGRET, _SQUARES, _SIZE):
                if name in part.sums:
                    part.sums[name] = part.sums[name] * factor
        part.clock = clock


def _add(sums: dict[str, Vector], name: str, increment: Vector, k: int) -> None:
    held = sums.get(name)
    if held is None:
        sums[name] = increment
        return
    # A contribution may know retired members behind the current ones; they get nothing.
    held = held.copy()
    held[:k] += increment
    sums[name] = held
