"""Weights that no label moves: given ones, or the same for everyone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.contribution import Contribution, Vector, merged
from stream_ensemble.core.learning.pooling import over_awake


class Fixed:
    """Given weights over K members, renormalised over the awake; credit is these K numbers."""

    order_free = True

    def __init__(self, members: tuple[str, ...], weights: Vector, name: str = "fixed") -> None:
        self.name = name
        self.members = members
        self._weights = weights

    def merge(self, parts: Sequence[Contribution]) -> Contribution:
        """See ``Algorithm``: only n is of interest."""
        return merged(parts, self.members, {})

    def credit(self, whole: Contribution) -> Vector:
        """The weights."""
        return self._weights

    def pool(self, credit: Vector, awake: NDArray[np.bool_]) -> NDArray[np.float64]:
        """See ``Algorithm``; no floor, for a zero was meant."""
        return over_awake(credit, awake, 0.0)

    def learn(self, part: Contribution, credit: Vector, labelled: Labelled) -> None:
        """Nothing to learn but the clock."""
        part.clock = max(part.clock, labelled.clock)


def uniform(members: tuple[str, ...]) -> Fixed:
    """The same weight for everyone: the plain average."""
    return Fixed(members, np.ones(len(members)), "uniform")
