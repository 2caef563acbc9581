"""A recorded stream played through segments: what ``segment_mixture`` makes live, many rows at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.algorithm import Algorithm
from stream_ensemble.core.learning.backtest import Played, Stream, play
from stream_ensemble.core.learning.losses import Loss
from stream_ensemble.core.learning.schedule import NEVER
from stream_ensemble.core.learning.segment_mixture import Belief


def play_segments(
    stream: Stream, segments: NDArray[np.int64], make: Callable[[], Algorithm], loss: Loss
) -> Played:
    """Fuse every row with what had been learned by then, everywhere and in its segment; ``final`` is what was
    learned everywhere.

    Args:
        segments: T, the number of each row's segment.
        make: the algorithm over the members.
    """
    algorithm = make()
    everywhere = play(stream, algorithm, loss)
    fused, losses, weights = (a.copy() for a in (everywhere.fused, everywhere.losses, everywhere.weights))
    for segment in np.unique(segments):
        rows = np.flatnonzero(segments == segment)
        local = _only(stream, rows)
        own = play(local, make(), loss)
        both = np.stack([everywhere.fused[rows], own.fused], axis=1)
        somebody = np.repeat(local.awake.any(axis=1, keepdims=True), 2, axis=1)
        # What was fused before the segment's first label says nothing about its mixture.
        arrival = np.where(_learned_before(local) > 0, local.arrival, NEVER)
        believed = play(Stream(both, somebody, local.labels, arrival), Belief(algorithm.name, loss), loss)
        fused[rows], losses[rows] = believed.fused, believed.losses
        shares = np.stack([everywhere.weights[rows], own.weights], axis=1)
        weights[rows] = (believed.weights[:, :, None] * shares).sum(axis=1)
    return Played(fused, losses, weights, everywhere.n, everywhere.final)


def _only(stream: Stream, rows: NDArray[np.int64]) -> Stream:
    """These rows as a stream of their own: arrivals are counted in its requests."""
    arrival = np.searchsorted(rows, stream.arrival[rows])
    # What comes after the last row of the segment comes too late for all of them.
    return Stream(stream.outputs[rows], stream.awake[rows], stream.labels[rows], arrival)


def _learned_before(stream: Stream) -> NDArray[np.int64]:
    """T; how many labels had come before each row."""
    return np.searchsorted(np.sort(stream.arrival), np.arange(len(stream.arrival)), side="right")
