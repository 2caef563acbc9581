"""Weights that no label moves.

``w_i`` as given, over the awake. Regret against the best fixed weights: whatever these lack. Order-free, as
nothing is learned.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.additive import AdditiveMean, Floats, Increments
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.contribution import Vector
from stream_ensemble.core.learning.pooling import over_awake


class Fixed(AdditiveMean):
    """Given weights over K members, renormalised over the awake; credit is these K numbers."""

    def __init__(self, members: tuple[str, ...], weights: Vector, name: str = "fixed") -> None:
        self.name = name
        self.members = members
        self.half_lives = {}
        self._weights = weights

    def credits(self, sums: Mapping[str, Floats], maxima: Mapping[str, Floats]) -> Floats:
        """The weights."""
        return self._weights

    def pool(self, credit: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``; no floor, for a zero was meant."""
        return over_awake(credit, awake, 0.0)

    def taught(self, mixing: Floats, labelled: Labelled) -> Increments:
        """Nothing to learn."""
        return Increments({}, {})
