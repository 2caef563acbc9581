"""What the order-free algorithms share: state is sums (some discounted) and maxima, so labels simply add up.

An algorithm of this kind says how sums become credit and how a label becomes increments; merging, adding,
taking back and prefix sums over a chunk of labels are then the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.contribution import PER_ARM, Contribution, Vector, discount, merged
from stream_ensemble.core.learning.losses import LogLoss, Loss
from stream_ensemble.core.learning.pooling import mean_of, pooled_once

Floats = NDArray[np.float64]
#: How an algorithm mixes requests: their weights, in whatever form it needs them to fuse and to learn.
Mixing = TypeVar("Mixing")


@dataclass(frozen=True, slots=True)
class Increments:
    """What R labels teach, one row each, not yet weighted or discounted: by array name, R x length.

    Where the arrays are parts of one matrix, sums before maxima, in their order and without gaps, ``matrix``
    is that.
    """

    sums: Mapping[str, Floats]
    maxima: Mapping[str, Floats]
    matrix: Floats | None = None

    def of(self, rows: Sequence[int]) -> Increments:
        """Those of some rows."""
        places = np.array(rows, np.intp)
        return Increments(
            {name: array[places] for name, array in self.sums.items()},
            {name: array[places] for name, array in self.maxima.items()},
        )


class Additive(ABC, Generic[Mixing]):
    """Base of the algorithms whose state is sums and maxima over labels; order-free to rounding.

    ``Mixing`` is what the weights of R requests are kept in, between fusing and learning. Credit is V, or
    R x V (one per row), wherever it stands beside R rows.

    Attributes:
        half_lives: by array name, labels until an old increment counts half; absent or None: not discounted.
        loss: of the fused output; of no account where no label moves anything.
    """

    name: str
    order_free = True
    linear = True
    members: tuple[str, ...]
    half_lives: Mapping[str, float | None]
    loss: Loss = LogLoss()

    @abstractmethod
    def credits(self, sums: Mapping[str, Floats], maxima: Mapping[str, Floats]) -> Floats:
        """Credit of one state, or of S states at once. Shapes: by name (S x) length, result (S x) V.

        An absent name is zeros.
        """

    def credits_of(self, matrix: Floats, sums: Mapping[str, slice], maxima: Mapping[str, slice]) -> Floats:
        """Credit of S states, given as a matrix with the arrays side by side, as in ``Increments.matrix``."""
        return self.credits(
            {name: matrix[:, place] for name, place in sums.items()},
            {name: matrix[:, place] for name, place in maxima.items()},
        )

    @abstractmethod
    def pool(self, credit: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``."""

    @abstractmethod
    def mixing(self, credit: Floats, outputs: Floats, awake: NDArray[np.bool_]) -> Mixing:
        """How R requests are mixed. Shapes: outputs R x K x C, awake R x K."""

    @abstractmethod
    def shares(self, mixing: Mixing) -> Floats:
        """As :meth:`pool`, R x K, or 1 x K where all rows are alike."""

    @abstractmethod
    def mix(self, mixing: Mixing, outputs: Floats, awake: NDArray[np.bool_]) -> Floats:
        """The fused outputs, R x C; see ``Algorithm.fuse``."""

    @abstractmethod
    def taught(self, mixing: Mixing, labelled: Labelled) -> Increments:
        """What each label teaches, at the mixing its request was fused with."""

    def fuse(self, credit: Floats, outputs: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``."""
        return self.mix(self.mixing(credit, outputs, awake), outputs, awake)

    def increments(self, credit: Floats, labelled: Labelled) -> Increments:
        """What each label teaches, at the credit its request was fused with."""
        return self.taught(self.mixing(credit, labelled.outputs, labelled.awake), labelled)

    def merge(self, parts: Sequence[Contribution]) -> Contribution:
        """See ``Algorithm``."""
        return merged(parts, self.members, self.half_lives)

    def credit(self, whole: Contribution) -> Vector:
        """See ``Algorithm``."""
        return self.credits(whole.sums, whole.maxima)

    def learn(self, part: Contribution, credit: Vector, labelled: Labelled) -> None:
        """See ``Algorithm``."""
        self.add(part, self.increments(credit, labelled), labelled.scale, labelled.clock)

    def add(self, part: Contribution, taught: Increments, scale: Floats, clock: float) -> None:
        """Add what R labels of one clock teach. Shape: scale R, the labels' weights as in ``Labelled``."""
        self._advance(part, clock)
        factor = _Discounts(self.half_lives, part.clock - clock)
        for name, rows in taught.sums.items():
            added_up = (scale @ rows) * factor.of(name)
            part.sums[name] = _onto(_held(part, part.sums, name, added_up), added_up, np.add)
        # A maximum cannot be taken back: a correction leaves it.
        added = scale > 0
        for name, rows in taught.maxima.items():
            largest = rows[added].max(axis=0, initial=0.0) * factor.of(name)
            part.maxima[name] = _onto(_held(part, part.maxima, name, largest), largest, np.maximum)

    def _advance(self, part: Contribution, clock: float) -> None:
        """Bring the discounted arrays to a newer clock."""
        if clock <= part.clock:
            return
        factor = _Discounts(self.half_lives, clock - part.clock)
        for arrays in (part.sums, part.maxima):
            for name in arrays:
                if self.half_lives.get(name) is not None:
                    arrays[name] = arrays[name] * factor.of(name)
        part.clock = clock


class AdditiveMean(Additive[Floats]):
    """Base of those that fuse to a weighted mean of the outputs: their mixing is weights, R x K or 1 x K."""

    def mixing(self, credit: Floats, outputs: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Additive``."""
        return pooled_once(self.pool, credit, awake)

    def shares(self, mixing: Floats) -> Floats:
        """See ``Additive``."""
        return mixing

    def mix(self, mixing: Floats, outputs: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Additive``."""
        return mean_of(outputs, mixing)


class _Discounts:
    """Factors of arrays after so many labels; there are far fewer half-lives than arrays."""

    def __init__(self, half_lives: Mapping[str, float | None], labels: float) -> None:
        self._half_lives = half_lives
        self._labels = labels
        self._known: dict[float | None, float] = {}

    def of(self, name: str) -> float:
        """The factor of one array."""
        half_life = self._half_lives.get(name)
        factor = self._known.get(half_life)
        if factor is None:
            factor = self._known[half_life] = discount(half_life, self._labels)
        return factor


def _held(part: Contribution, arrays: Mapping[str, Vector], name: str, new: Vector) -> Vector | None:
    """What ``part`` has under a name; zeros for a new one where it knows more members than ``new``."""
    held = arrays.get(name)
    if held is None and not name.startswith(PER_ARM) and len(part.members) > len(new):
        return np.zeros(len(part.members))
    return held


def _onto(held: Vector | None, new: Vector, combine: np.ufunc) -> Vector:
    """``held`` combined with ``new``, in an array of its own.

    ``held`` may be longer: a contribution may know retired members behind the current ones; they stay.
    """
    if held is None:
        return new
    if len(held) == len(new):
        both: Vector = combine(held, new)
        return both
    result = held.copy()
    result[: len(new)] = combine(result[: len(new)], new)
    return result
