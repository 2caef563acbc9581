"""A recorded stream played through an algorithm, with the labels as late as they would come.

The same functions as the live learner's. Rows of which none can see another one's label are fused as one
chunk: the states between them are prefix sums of what the labels that arrive meanwhile teach. An algorithm
that is not order-free learns label by label, in order of arrival, then of request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.additive import Additive
from stream_ensemble.core.learning.algorithm import Algorithm, Labelled
from stream_ensemble.core.learning.contribution import Contribution, Vector
from stream_ensemble.core.learning.losses import Floats, Labels, Loss
from stream_ensemble.core.learning.prefix_states import PrefixStates

Places = NDArray[np.int64]
_LONGEST_CHUNK = 4096


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
    labels: Labels
    arrival: Places


@dataclass(frozen=True, slots=True)
class Played:
    """What came of it.

    Attributes:
        fused: T x C, zeros where nobody was awake.
        losses: T, of the fused outputs.
        weights: T x K, the members' shares in them.
        n: labels learned before the last row.
        final: K, the weights the last row would have had with everyone awake.
    """

    fused: Floats
    losses: Floats
    weights: Floats
    n: int
    final: Floats


def play(stream: Stream, algorithm: Algorithm, loss: Loss, clocks: Places | None = None) -> Played:
    """Fuse every row with what had been learned by then.

    Args:
        clocks: T, what forgetting is counted in; None: labels learned before each row, as the live learner.
    """
    total, k, classes = stream.outputs.shape
    learner: _Learner = (
        _Chunks(algorithm, stream) if isinstance(algorithm, Additive) else _OneByOne(algorithm, stream)
    )
    fused, weights = np.zeros((total, classes)), np.zeros((total, k))
    learned = 0
    for chunk in in_chunks(stream, clocks):
        fused[chunk.rows], weights[chunk.rows] = learner.answer(*chunk)
        learned += len(chunk.arrived)
    losses = loss.loss(loss.points(fused, stream.labels), stream.labels)
    final = algorithm.pool(learner.credit, np.ones((1, k), np.bool_))[0]
    return Played(fused, losses, weights, learned, final)


class Chunk(NamedTuple):
    """R rows none of which sees another one's label.

    Attributes:
        arrived: the rows whose labels come meanwhile, in order.
        counts: R; how many of these have come before each row.
        clocks: R; what these rows' own labels will count as made at.
    """

    rows: slice
    arrived: Places
    counts: Places
    clocks: Places


def in_chunks(stream: Stream, clocks: Places | None = None) -> Iterator[Chunk]:
    """The stream in chunks; ``clocks`` as for :func:`play`."""
    total = len(stream.labels)
    order = np.argsort(stream.arrival, kind="stable")
    soonest = np.minimum.accumulate(stream.arrival[::-1])[::-1]
    learned_before = np.searchsorted(stream.arrival[order], np.arange(total), side="right")
    if clocks is None:
        clocks = learned_before
    start, learned = 0, 0
    while start < total:
        stop = int(min(soonest[start], start + _LONGEST_CHUNK, total))
        rows = slice(start, stop)
        counts = learned_before[rows]
        yield Chunk(rows, order[learned : counts[-1]], counts - learned, clocks[rows])
        start, learned = stop, int(counts[-1])


class _Learner(Protocol):
    #: What the last row was fused with.
    credit: Vector

    def answer(self, rows: slice, arrived: Places, counts: Places, clocks: Places) -> tuple[Floats, Floats]:
        """Fused outputs and shares of the rows of a ``Chunk``."""
        ...


class _Chunks:
    """Order-free: all rows at once."""

    def __init__(self, algorithm: Additive[Any], stream: Stream) -> None:
        self._algorithm = algorithm
        self._stream = stream
        self._states = PrefixStates(algorithm, len(stream.labels))
        self.credit = algorithm.credit(algorithm.merge([]))

    def answer(self, rows: slice, arrived: Places, counts: Places, clocks: Places) -> tuple[Floats, Floats]:
        algorithm, labelled = self._algorithm, _labelled(self._stream, rows)
        credit = self._states.credits(arrived, counts)
        self.credit = credit[-1]
        mixing = algorithm.mixing(credit, labelled.outputs, labelled.awake)
        fused = algorithm.mix(mixing, labelled.outputs, labelled.awake)
        self._states.keep(rows, algorithm.taught(mixing, labelled), clocks)
        return fused, algorithm.shares(mixing)


class _OneByOne:
    """Label after label and row after row, each label at the credit its row was fused with."""

    def __init__(self, algorithm: Algorithm, stream: Stream) -> None:
        self._algorithm = algorithm
        self._stream = stream
        self._part = Contribution(algorithm.members)
        self.credit = algorithm.credit(algorithm.merge([]))
        self._credits = np.zeros((len(stream.labels), len(self.credit)))
        self._clocks = np.zeros(len(stream.labels))

    def answer(self, rows: slice, arrived: Places, counts: Places, clocks: Places) -> tuple[Floats, Floats]:
        algorithm, stream = self._algorithm, self._stream
        self._clocks[rows] = clocks
        fused, weights, learned = [], [], 0
        for t, count in zip(range(rows.start, rows.stop), counts.tolist(), strict=True):
            self._learn(arrived[learned:count])
            learned = count
            self._credits[t] = self.credit
            outputs, awake = stream.outputs[t : t + 1], stream.awake[t : t + 1]
            fused.append(algorithm.fuse(self.credit, outputs, awake))
            weights.append(algorithm.pool(self.credit, awake))
        return np.concatenate(fused), np.concatenate(weights)

    def _learn(self, arrived: Places) -> None:
        for s in arrived.tolist():
            one = _labelled(self._stream, slice(s, s + 1), float(self._clocks[s]))
            self._algorithm.learn(self._part, self._credits[s], one)
            self._part.n += 1
        if len(arrived):
            self.credit = self._algorithm.credit(self._algorithm.merge([self._part]))


def _labelled(stream: Stream, rows: slice, clock: float = 0.0) -> Labelled:
    labels = stream.labels[rows]
    return Labelled(stream.outputs[rows], stream.awake[rows], labels, np.ones(len(labels)), clock)
