"""A recorded stream played through an algorithm, with the labels as late as they would come.

The same functions as the live learner's. Rows of which none can see another one's label are fused as one
chunk: the states between them are prefix sums of what the labels that arrive meanwhile teach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.additive import Additive
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.losses import Loss

Floats = NDArray[np.float64]
_LONGEST_CHUNK = 4096
#: The arrival of a label that never comes.
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Stream:
    """T requests in order.

    Attributes:
        outputs: T x K x C, zeros where asleep.
        awake: T x K.
        labels: T, class numbers or values.
        arrival: T; the label of row s is learned before row t is fused if ``arrival[s] <= t``; more than s.
    """

    outputs: Floats
    awake: NDArray[np.bool_]
    labels: NDArray[np.int64] | NDArray[np.float64]
    arrival: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Played:
    """What came of it: loss of every row (T), the members' shares in it (T x K), n labels learned before the
    last row."""

    losses: Floats
    weights: Floats
    n: int


def delayed(rows: int, delay: int) -> NDArray[np.int64]:
    """Arrivals where each label comes ``delay`` requests late; 0: before the next request."""
    return np.arange(rows, dtype=np.int64) + 1 + delay


def in_bursts(rows: int, size: int) -> NDArray[np.int64]:
    """Arrivals where labels come together, all of a block of ``size`` requests at its end."""
    return (np.arange(rows, dtype=np.int64) // size + 1) * size


def play(stream: Stream, algorithm: Additive, loss: Loss, clocks: NDArray[np.int64] | None = None) -> Played:
    """Fuse every row with what had been learned by then.

    Args:
        clocks: T, what forgetting is counted in; None: labels learned before each row, as the live learner.
    """
    total, k = stream.awake.shape
    order = np.argsort(stream.arrival, kind="stable")
    arrivals = stream.arrival[order]
    soonest = np.minimum.accumulate(stream.arrival[::-1])[::-1]
    learned_before = np.searchsorted(arrivals, np.arange(total), side="right")
    state = _States(algorithm, total)
    losses, weights = np.zeros(total), np.zeros((total, k))
    start = 0
    while start < total:
        stop = int(min(soonest[start], start + _LONGEST_CHUNK, total))
        rows = slice(start, stop)
        counts = learned_before[rows]
        credit = state.credits(order[state.learned : counts[-1]], counts)
        outputs, awake = stream.outputs[rows], stream.awake[rows]
        fused = algorithm.fuse(credit, outputs, awake)
        losses[rows] = loss.loss(loss.points(fused, stream.labels[rows]), stream.labels[rows])
        weights[rows] = algorithm.pool(credit, awake)
        labelled = Labelled(outputs, awake, stream.labels[rows], np.ones(stop - start), 0.0)
        state.keep(rows, credit, labelled, counts if clocks is None else clocks[rows])
        start = stop
    return Played(losses, weights, state.learned)


class _States:
    """The learned state, and what each row's label will teach when it comes."""

    def __init__(self, algorithm: Additive, total: int) -> None:
        self.learned = 0
        self._algorithm = algorithm
        self._clock = 0.0
        self._clocks = np.zeros(total)
        self._sums: dict[str, Floats] = {}
        self._maxima: dict[str, Floats] = {}
        self._taught_sums: dict[str, Floats] = {}
        self._taught_maxima: dict[str, Floats] = {}

    def keep(self, rows: slice, credit: Floats, labelled: Labelled, clocks: NDArray[np.int64]) -> None:
        """Work out what the labels of these rows teach, for later."""
        taught = self._algorithm.increments(credit, labelled)
        self._clocks[rows] = clocks
        for kept, arrays in ((self._taught_sums, taught.sums), (self._taught_maxima, taught.maxima)):
            for name, array in arrays.items():
                if name not in kept:
                    kept[name] = np.zeros((len(self._clocks), array.shape[1]))
                kept[name][rows] = array

    def credits(self, arrived: NDArray[np.int64], counts: NDArray[np.int64]) -> Floats:
        """Credit of each row of a chunk, R x V.

        Args:
            arrived: the rows whose labels come meanwhile, in order.
            counts: R; how many labels there are before each row.
        """
        clocks = self._clocks[arrived]
        newest = np.maximum.accumulate(np.concatenate([[self._clock], clocks]))
        which = counts - self.learned
        sums = {
            name: self._prefixes(name, array[arrived], self._sums.get(name), clocks, newest, np.add)
            for name, array in self._taught_sums.items()
        }
        maxima = {
            name: self._prefixes(name, array[arrived], self._maxima.get(name), clocks, newest, np.maximum)
            for name, array in self._taught_maxima.items()
        }
        self._sums = {name: array[-1] for name, array in sums.items()}
        self._maxima = {name: array[-1] for name, array in maxima.items()}
        self._clock = float(newest[-1])
        self.learned += len(arrived)
        made = self._algorithm.credits(
            {name: array[which] for name, array in sums.items()},
            {name: array[which] for name, array in maxima.items()},
        )
        return made if made.ndim == 2 else np.broadcast_to(made, (len(counts), len(made)))

    def _prefixes(
        self,
        name: str,
        taught: Floats,
        held: Floats | None,
        clocks: Floats,
        newest: Floats,
        combine: np.ufunc,
    ) -> Floats:
        """States before and after each label: (labels + 1) x length."""
        first = np.zeros(taught.shape[1]) if held is None else held
        half_life = self._algorithm.half_lives.get(name)
        if half_life is None:
            result: Floats = combine.accumulate(np.concatenate([first[None], taught]), axis=0)
            return result
        grown = np.exp2((clocks - newest[0]) / half_life)
        whole = combine.accumulate(np.concatenate([first[None], taught * grown[:, None]]), axis=0)
        shrunk: Floats = whole * np.exp2(-(newest - newest[0]) / half_life)[:, None]
        return shrunk
