"""States between labels, many at a time: prefix sums and maxima of what each label teaches.

All arrays of an algorithm stand side by side in one matrix, sums before maxima, so that a chunk of labels
costs a few operations however many arrays there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.additive import Floats, Increments

#: Sums are held grown by ``2^(clock / half-life)`` within a block; beyond this exponent a new block starts.
_MOST_GROWTH = 256.0


class OfSums(Protocol):
    """What makes credit of sums and maxima: an ``Additive`` algorithm, of which see these two."""

    @property
    def half_lives(self) -> Mapping[str, float | None]:
        """By array name."""
        ...

    def credits_of(self, matrix: Floats, sums: Mapping[str, slice], maxima: Mapping[str, slice]) -> Floats:
        """Credit of S states."""
        ...


class PrefixStates:
    """The learned state of an order-free algorithm, and what each of T rows will teach once labelled."""

    def __init__(self, algorithm: OfSums, total: int) -> None:
        self._algorithm = algorithm
        self._clock = 0.0
        self._clocks = np.zeros(total)
        self._sums: dict[str, slice] = {}
        self._maxima: dict[str, slice] = {}
        self._width_of_sums = 0
        self._rates = self._rate_of = np.zeros(0, np.intp)
        # What rows teach whose labels are on their way, each in a slot of its own; slots are used again.
        self._taught = np.zeros((0, 0))
        self._slots = np.zeros(total, np.intp)
        self._free = np.zeros(0, np.intp)
        self._held = np.zeros(0)

    def keep(self, rows: slice, taught: Increments, clocks: NDArray[np.int64]) -> None:
        """Keep for later what the labels of these rows teach. Shape: clocks R."""
        if not self._sums and taught.sums:
            self._lay_out(taught)
        self._clocks[rows] = clocks
        matrix = taught.matrix
        if matrix is None and taught.sums:
            matrix = np.concatenate([*taught.sums.values(), *taught.maxima.values()], axis=1)
        if matrix is not None:
            slots = self._taken(len(matrix))
            self._slots[rows] = slots
            self._taught[slots] = matrix

    def credits(self, arrived: NDArray[np.int64], counts: NDArray[np.int64]) -> Floats:
        """Credit of each row of a chunk, R x V.

        Args:
            arrived: the rows whose labels come meanwhile, in order.
            counts: R; how many of them come before each row.
        """
        states = self._states(arrived)[counts]
        made = self._algorithm.credits_of(states, self._sums, self._maxima)
        return made if made.ndim == 2 else np.broadcast_to(made, (len(counts), len(made)))

    def _taken(self, n: int) -> NDArray[np.intp]:
        """Slots for n more rows."""
        if n > len(self._free):
            before = len(self._taught)
            more = max(n, before)
            self._taught = np.concatenate([self._taught, np.zeros((more, self._taught.shape[1]))])
            self._free = np.concatenate([self._free, np.arange(before, before + more)])
        kept = len(self._free) - n
        self._free, taken = self._free[:kept], self._free[kept:]
        return taken

    def _lay_out(self, taught: Increments) -> None:
        arrays = [*taught.sums.items(), *taught.maxima.items()]
        widths = [array.shape[1] for _, array in arrays]
        ends = list(accumulate(widths))
        places = [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]
        self._sums = dict(zip(taught.sums, places, strict=False))
        self._maxima = dict(zip(taught.maxima, places[len(taught.sums) :], strict=True))
        self._width_of_sums = sum(widths[: len(taught.sums)])
        half_lives = self._algorithm.half_lives
        rates = [1.0 / (half_lives.get(name) or np.inf) for name, _ in arrays]
        self._rates, which = np.unique(rates, return_inverse=True)
        self._rate_of = np.repeat(which, widths)
        self._taught = np.zeros((0, sum(widths)))
        self._held = np.zeros(sum(widths))

    def _states(self, arrived: NDArray[np.int64]) -> Floats:
        """The states before and after each of N labels, (N + 1) x columns."""
        clocks = self._clocks[arrived]
        newest = np.maximum.accumulate(np.concatenate([[self._clock], clocks]))
        after = np.empty((len(arrived) + 1, len(self._held)))
        after[0] = self._held
        sums = self._width_of_sums
        slots = self._slots[arrived]
        for begin, end, base in self._blocks(newest):
            block = after[begin : end + 1]
            if self._sums:
                grown = self._discounts(base - clocks[begin:end])
                np.multiply(self._taught[slots[begin:end]], grown, out=block[1:])
            first = block[0].copy()
            block[0] *= self._discounts(base - newest[begin : begin + 1])[0]
            np.add.accumulate(block[:, :sums], axis=0, out=block[:, :sums])
            np.maximum.accumulate(block[:, sums:], axis=0, out=block[:, sums:])
            block[1:] *= self._discounts(newest[begin + 1 : end + 1] - base)
            block[0] = first
        if self._sums:
            self._free = np.concatenate([self._free, slots])
        self._held = after[-1].copy()
        self._clock = float(newest[-1])
        return after

    def _blocks(self, newest: Floats) -> Iterator[tuple[int, int, float]]:
        """Runs of labels over which no exponent grows too far: begin, end, and the clock it is counted from.

        A jump of the clock starts a block, counted from beyond the jump.
        """
        fastest = self._rates.max(initial=0.0)
        most = _MOST_GROWTH / fastest if fastest > 0 else np.inf
        begin = 0
        while begin < len(newest) - 1:
            base = newest[begin]
            if newest[begin + 1] - base > most:
                base = newest[begin + 1]
            end = int(np.searchsorted(newest[1:], base + most, side="right"))
            yield begin, end, float(base)
            begin = end

    def _discounts(self, labels: Floats) -> Floats:
        """By column, the factor after so many labels (negative: before). Shapes: N, result N x columns."""
        of_rates: Floats = np.exp2(-labels[:, None] * self._rates)
        return of_rates.take(self._rate_of, axis=1)
