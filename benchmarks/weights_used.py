"""When a label's weights were in use, told by the topics alone.

A fused record names the weights it was made with by a digest of every partition's order; the weights topic
has the orders, and how many labels each partition had learned by then.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import RunError
from benchmarks.task import PARTITIONS
from benchmarks.verify import read_back
from stream_ensemble.messages import Weights, WeightsVersion


class _Fused(msgspec.Struct):
    weights_version: WeightsVersion


class _Committed(NamedTuple):
    """A record of the weights topic: when it was written (s), its order, and the labels its partition had
    learned.
    """

    at: float
    order: tuple[int, int, int]
    n: int


class Waited(NamedTuple):
    """Of N labels, when each was appended and how long it took until an answer was made with it (s).

    ``shown``: whether one was; of the others ``waits`` says how long they had waited at the last answer.
    Shapes: N, N, N.
    """

    appended: NDArray[np.float64]
    waits: NDArray[np.float64]
    shown: NDArray[np.bool_]


_decode_fused = msgspec.json.Decoder(_Fused).decode
_decode_weights = msgspec.json.Decoder(Weights).decode


def waited(bootstrap: str, fused: str, feedback: str, weights: str) -> Waited:
    """Of every label. Each partition must have learned its labels in their order.

    Raises:
        RunError: an answer names weights that the weights topic does not have.
    """
    history = _history(bootstrap, weights)
    versions, ended = _versions(bootstrap, fused)
    used = _used(history, versions)
    found = [
        _of(own, used.times, used.places[:, p], labels, ended)
        for p, (own, labels) in enumerate(zip(history, _appended(bootstrap, feedback), strict=True))
    ]
    return Waited(*map(np.concatenate, zip(*found, strict=True)))


def _of(
    history: Sequence[_Committed],
    times: NDArray[np.float64],
    places: NDArray[np.int64],
    appended: NDArray[np.float64],
    ended: float,
) -> Waited:
    """Of one partition's labels: where a label's transaction stands in the history, and when an answer first
    was that far.
    """
    place = np.searchsorted([each.n for each in history], np.arange(len(appended)), side="right")
    first = np.searchsorted(places, place, side="left")
    shown = first < len(times)
    return Waited(appended, np.append(times, ended)[first] - appended, shown)


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
            order = said.generation, said.epoch, said.sequence
            found[partition].append(_Committed(message.timestamp()[1] / 1000, order, said.n))
    return found


def _versions(bootstrap: str, topic: str) -> tuple[list[tuple[float, WeightsVersion]], float]:
    """When each version was first used, and when the last answer was given (s)."""
    first: dict[str, tuple[float, WeightsVersion]] = {}
    ended = 0.0
    for _, messages in read_back(bootstrap, topic):
        for message in messages:
            version, at = _decode_fused(message.value()).weights_version, message.timestamp()[1] / 1000
            ended = max(ended, at)
            if version.digest not in first or at < first[version.digest][0]:
                first[version.digest] = at, version
    return sorted(first.values(), key=lambda each: each[0]), ended


def _appended(bootstrap: str, topic: str) -> list[NDArray[np.float64]]:
    found: list[list[float]] = [[] for _ in range(PARTITIONS)]
    for partition, messages in read_back(bootstrap, topic):
        found[partition] += [message.timestamp()[1] / 1000 for message in messages]
    return [np.array(times) for times in found]


def _used(history: Sequence[Sequence[_Committed]], versions: Sequence[tuple[float, WeightsVersion]]) -> _Used:
    places = [(-1,) * PARTITIONS]
    for at, version in versions:
        places.append(_place(history, version, at, places[-1]))
    return _Used(np.array([at for at, _ in versions]), np.array(places[1:]))


def _place(
    history: Sequence[Sequence[_Committed]], version: WeightsVersion, at: float, before: tuple[int, ...]
) -> tuple[int, ...]:
    """How far in each partition's history a version first used then is, which is not before ``before``.

    However much was committed since: the labels of both halves of the partitions must add up.
    """
    spans = [
        [place for place in range(begin, len(own)) if place < 0 or own[place].at <= at]
        for begin, own in zip(before, history, strict=True)
    ]
    half = PARTITIONS // 2
    others = defaultdict(list)
    for n, places in _sums(history[half:], spans[half:]):
        others[n].append(places)
    for n, places in _sums(history[:half], spans[:half]):
        for other in others[version.n - n]:
            used = [(p, history[p][i]) for p, i in enumerate((*places, *other)) if i >= 0]
            if _digest(used) == version.digest:
                return (*places, *other)
    raise RunError(f"weights {version} do not follow from the weights topic")


def _sums(
    history: Sequence[Sequence[_Committed]], spans: Sequence[Sequence[int]]
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """All ways to be in these partitions' histories, with the labels learned there."""
    for places in product(*spans):
        yield sum(own[i].n for own, i in zip(history, places, strict=True) if i >= 0), places


def _digest(used: Sequence[tuple[int, _Committed]]) -> str:
    return hashlib.blake2b(repr([(p, each.order) for p, each in used]).encode(), digest_size=8).hexdigest()
