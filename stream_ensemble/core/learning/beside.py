"""An algorithm with something more kept beside its own sums."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.additive import Additive, Floats, Increments, Mixing
from stream_ensemble.core.learning.algorithm import Algorithm, Labelled


class Beside(Additive[Mixing]):
    """Fuses and learns as ``inner``; what is added to its increments changes neither its credit nor its own
    sums.

    Args:
        half_lives: of the arrays that are added.
    """

    def __init__(self, inner: Additive[Mixing], half_lives: Mapping[str, float | None]) -> None:
        self.name = inner.name
        self.members = inner.members
        self.linear = inner.linear
        self.loss = inner.loss
        self.half_lives = {**inner.half_lives, **half_lives}
        self.inner = inner

    def credits(self, sums: Mapping[str, Floats], maxima: Mapping[str, Floats]) -> Floats:
        """See ``Additive``."""
        return self.inner.credits(sums, maxima)

    def pool(self, credit: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``."""
        return self.inner.pool(credit, awake)

    def mixing(self, credit: Floats, outputs: Floats, awake: NDArray[np.bool_]) -> Mixing:
        """See ``Additive``."""
        return self.inner.mixing(credit, outputs, awake)

    def shares(self, mixing: Mixing) -> Floats:
        """See ``Additive``."""
        return self.inner.shares(mixing)

    def mix(self, mixing: Mixing, outputs: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Additive``."""
        return self.inner.mix(mixing, outputs, awake)

    def taught(self, mixing: Mixing, labelled: Labelled) -> Increments:
        """See ``Additive``."""
        own = self.inner.taught(mixing, labelled)
        return Increments({**own.sums, **self.added(own, mixing, labelled)}, own.maxima)

    @abstractmethod
    def added(self, own: Increments, mixing: Mixing, labelled: Labelled) -> Mapping[str, Floats]:
        """What is added to ``own``, a row for each label: by array name, R x length."""


def innermost(algorithm: Algorithm) -> Algorithm:
    """The algorithm itself, whatever is kept beside it."""
    while isinstance(algorithm, Beside):
        algorithm = algorithm.inner
    return algorithm
