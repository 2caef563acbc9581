"""When a label's weights were in use, told by the topics alone.

A fused record names the weights it was made with by a digest of every partition's order; the weights topic
has the orders, and how many labels each partition had learned by then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import RunError
from benchmarks.task import PARTITIONS
from benchmarks.verify import read_back
from stream_ensemble.messages import Weights, WeightsVersion

#: Between two versions a partition commits so often at most.
_FURTHER = (3, 6, 10)


class _Fused(msgspec.Struct):
    weights_version: WeightsVersion


class _Committed(NamedTuple):
    """A record of the weights topic: its order, and the labels its partition had learned."""

    order: tuple[int, int, int]
    n: int


_decode_fused = msgspec.json.Decoder(_Fused).decode
_decode_weights = msgspec.json.Decoder(Weights).decode


def waited(bootstrap: str, fused: str, feedback: str, weights: str) -> tuple[NDArray[np.float64], ...]:
    """Of N labels, when each was appended and how long it took until an answer was made with it (s; infinite:
    none was). Shapes: N, N.

    Each partition must have learned its labels in their order.
    """
    history = _history(bootstrap, weights)
    used = _used(history, _versions(bootstrap, fused))
    appended = _appended(bootstrap, feedback)
    waits = []
    for p in range(PARTITIONS):
        # Where a label's transaction stands in the history, and when an answer first was that far.
        place = np.searchsorted([each.n for each in history[p]], np.arange(len(appended[p])), side="right")
        first = np.searchsorted(used.places[:, p], place, side="left")
        times = np.append(used.times, np.inf)
        waits.append(times[first] - appended[p])
    return np.concatenate(appended), np.concatenate(waits)


class _Used(NamedTuple):
    """V versions in the order of their use: when first (s), and how far in each partition's history.

    Shapes: V, V x P; -1: nothing of that partition.
    """

    times: NDArray[np.float64]
    places: NDArray[np.int64]


def _history(bootstrap: str, topic: str) -> list[list[_Committed]]:
    found: list[list[_Committed]] = [[] for _ in range(PARTITIONS)]
    for partition, messages in read_back(bootstrap, topic):
        for message in messages:
            said = _decode_weights(message.value())
            found[partition].append(_Committed((said.generation, said.epoch, said.sequence), said.n))
    return found


def _versions(bootstrap: str, topic: str) -> list[tuple[float, WeightsVersion]]:
    first: dict[str, tuple[float, WeightsVersion]] = {}
    for _, messages in read_back(bootstrap, topic):
        for message in messages:
            version, at = _decode_fused(message.value()).weights_version, message.timestamp()[1] / 1000
            if version.digest not in first or at < first[version.digest][0]:
                first[version.digest] = at, version
    return sorted(first.values(), key=lambda each: each[0])


def _appended(bootstrap: str, topic: str) -> list[NDArray[np.float64]]:
    found: list[list[float]] = [[] for _ in range(PARTITIONS)]
    for partition, messages in read_back(bootstrap, topic):
        found[partition] += [message.timestamp()[1] / 1000 for message in messages]
    return [np.array(times) for times in found]


def _used(history: Sequence[Sequence[_Committed]], versions: Sequence[tuple[float, WeightsVersion]]) -> _Used:
    places = [(-1,) * PARTITIONS]
    for _, version in versions:
        places.append(_place(history, version, places[-1]))
    return _Used(np.array([at for at, _ in versions]), np.array(places[1:]))


def _place(
    history: Sequence[Sequence[_Committed]], version: WeightsVersion, before: tuple[int, ...]
) -> tuple[int, ...]:
    """How far in each partition's history a version is, which is not before ``before``."""
    for further in _FURTHER:
        spans = [
            range(at, min(at + further, len(own) - 1) + 1) for at, own in zip(before, history, strict=True)
        ]
        for places in product(*spans):
            used = [(p, history[p][at]) for p, at in enumerate(places) if at >= 0]
            if sum(each.n for _, each in used) == version.n and _digest(used) == version.digest:
                return places
    raise RunError(f"weights {version} do not follow from the weights topic")


def _digest(used: Sequence[tuple[int, _Committed]]) -> str:
    return hashlib.blake2b(repr([(p, each.order) for p, each in used]).encode(), digest_size=8).hexdigest()
