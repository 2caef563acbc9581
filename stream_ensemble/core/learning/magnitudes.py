"""How large the increments of a state were: the scale that its rounding is judged by.

Two computations of the same sum in another order differ by rounding, which is relative to the sum of
|increments| and not to what is left of it when they cancel.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stream_ensemble.core.learning.additive import Additive, Floats, Increments, Mixing
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.beside import Beside
from stream_ensemble.core.learning.contribution import Contribution, Vector

#: Ends the names of the arrays that are added.
_OF = " |increments|"


class WithMagnitudes(Beside[Mixing]):
    """An algorithm that, beside each of its sums, keeps the same sum over |increments|.

    A label taken back adds to it.
    """

    def __init__(self, inner: Additive[Mixing]) -> None:
        half_lives = {name + _OF: half_life for name, half_life in inner.half_lives.items()}
        super().__init__(inner, half_lives)

    def added(self, own: Increments, mixing: Mixing, labelled: Labelled) -> Mapping[str, Floats]:
        """See ``Beside``."""
        # Weighted with the scale afterwards, whose sign must not count.
        sign = np.sign(labelled.scale)[:, None]
        return {name + _OF: np.abs(rows) * sign for name, rows in own.sums.items()}


def apart(part: Contribution) -> tuple[Contribution, dict[str, Vector]]:
    """What the algorithm itself learned, and by name of each of its sums the sum of |increments|."""
    own = {name: array for name, array in part.sums.items() if not name.endswith(_OF)}
    sizes = {name.removesuffix(_OF): array for name, array in part.sums.items() if name.endswith(_OF)}
    return Contribution(part.members, own, part.maxima, part.n, part.clock), sizes
