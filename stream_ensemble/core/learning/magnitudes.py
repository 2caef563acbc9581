"""How large the increments of a state were: the scale that its rounding is judged by.

Two computations of the same sum in another order differ by rounding, which is relative to the sum of
|increments| and not to what is left of it when they cancel.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.additive import Additive, Floats, Increments, Mixing
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.contribution import Contribution, Vector

#: Ends the names of the arrays that are added.
_OF = " |increments|"


class WithMagnitudes(Additive[Mixing]):
    """An algorithm that, beside each of its sums, keeps the same sum over |increments|.

    A label taken back adds to it. What the algorithm itself learns, and its credit, stay as they are.
    """

    def __init__(self, inner: Additive[Mixing]) -> None:
        self.name = inner.name
        self.members = inner.members
        self.linear = inner.linear
        self.half_lives = dict(inner.half_lives) | {
            name + _OF: half_life for name, half_life in inner.half_lives.items()
        }
        self._inner = inner

    def credits(self, sums: Mapping[str, Floats], maxima: Mapping[str, Floats]) -> Floats:
        """See ``Additive``."""
        return self._inner.credits(sums, maxima)

    def pool(self, credit: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``."""
        return self._inner.pool(credit, awake)

    def mixing(self, credit: Floats, outputs: Floats, awake: NDArray[np.bool_]) -> Mixing:
        """See ``Additive``."""
        return self._inner.mixing(credit, outputs, awake)

    def shares(self, mixing: Mixing) -> Floats:
        """See ``Additive``."""
        return self._inner.shares(mixing)

    def mix(self, mixing: Mixing, outputs: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Additive``."""
        return self._inner.mix(mixing, outputs, awake)

    def taught(self, mixing: Mixing, labelled: Labelled) -> Increments:
        """See ``Additive``."""
        inner = self._inner.taught(mixing, labelled)
        # Weighted with the scale afterwards, whose sign must not count.
        sign = np.sign(labelled.scale)[:, None]
        sizes = {name + _OF: np.abs(rows) * sign for name, rows in inner.sums.items()}
        return Increments({**inner.sums, **sizes}, inner.maxima)


def apart(part: Contribution) -> tuple[Contribution, dict[str, Vector]]:
    """What the algorithm itself learned, and by name of each of its sums the sum of |increments|."""
    own = {name: array for name, array in part.sums.items() if not name.endswith(_OF)}
    sizes = {name.removesuffix(_OF): array for name, array in part.sums.items() if name.endswith(_OF)}
    return Contribution(part.members, own, part.maxima, part.n, part.clock), sizes
