"""What the order-free algorithms share: state is sums (some discounted) and maxima, so labels simply add up.

An algorithm of this kind says how sums become credit and how a label becomes increments; merging, adding,
taking back and prefix sums over a chunk of labels are then the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.contribution import Contribution, Vector, discount, merged

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Increments:
    """What R labels teach, one row each, not yet weighted or discounted: by array name, R x length."""

    sums: Mapping[str, Floats]
    maxima: Mapping[str, Floats]


class Additive(ABC):
    """Base of the algorithms whose state is sums and maxima over labels; order-free to rounding.

    Attributes:
        half_lives: by array name, labels until an old increment counts half; absent or None: not discounted.
    """

    name: str
    order_free = True
    linear = True
    members: tuple[str, ...]
    half_lives: Mapping[str, float | None]

    @abstractmethod
    def credits(self, sums: Mapping[str, Floats], maxima: Mapping[str, Floats]) -> Floats:
        """Credit of one state, or of S states at once. Shapes: by name (S x) length, result (S x) V.

        An absent name is zeros.
        """

    @abstractmethod
    def increments(self, credit: Floats, labelled: Labelled) -> Increments:
        """What each label teaches, at the credit its request was fused with: V, or R x V (one per row)."""

    @abstractmethod
    def pool(self, credit: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``; credit is V, or R x V (one per row)."""

    def fuse(self, credit: Floats, outputs: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``; credit is V, or R x V (one per row)."""
        weights = self.pool(credit, awake)
        fused = weights[:, 0, None] * outputs[:, 0]
        for k in range(1, outputs.shape[1]):
            fused += weights[:, k, None] * outputs[:, k]
        return fused

    def merge(self, parts: Sequence[Contribution]) -> Contribution:
        """See ``Algorithm``."""
        return merged(parts, self.members, self.half_lives)

    def credit(self, whole: Contribution) -> Vector:
        """See ``Algorithm``."""
        return self.credits(whole.sums, whole.maxima)

    def learn(self, part: Contribution, credit: Vector, labelled: Labelled) -> None:
        """See ``Algorithm``."""
        taught = self.increments(credit, labelled)
        self._advance(part, labelled.clock)
        behind = part.clock - labelled.clock
        for name, rows in taught.sums.items():
            increment = (labelled.scale @ rows) * discount(self.half_lives.get(name), behind)
            part.sums[name] = _onto(part.sums.get(name), increment, np.add)
        # A maximum cannot be taken back: a correction leaves it.
        added = labelled.scale > 0
        for name, rows in taught.maxima.items():
            largest = rows[added].max(axis=0, initial=0.0) * discount(self.half_lives.get(name), behind)
            part.maxima[name] = _onto(part.maxima.get(name), largest, np.maximum)

    def _advance(self, part: Contribution, clock: float) -> None:
        """Bring the discounted arrays to a newer clock."""
        if clock <= part.clock:
            return
        for arrays in (part.sums, part.maxima):
            for name in arrays:
                half_life = self.half_lives.get(name)
                if half_life is not None:
                    arrays[name] = arrays[name] * discount(half_life, clock - part.clock)
        part.clock = clock


def _onto(held: Vector | None, new: Vector, combine: np.ufunc) -> Vector:
    """``held`` combined with ``new``, in an array of its own.

    ``held`` may be longer: a contribution may know retired members behind the current ones; they stay.
    """
    if held is None:
        return new
    result = held.copy()
    result[: len(new)] = combine(result[: len(new)], new)
    return result
