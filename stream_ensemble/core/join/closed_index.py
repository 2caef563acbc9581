"""Which requests have ended: 16 bytes an id, so that the dedup window may be long.

An id is kept as two 64-bit values of Python's keyed hash of bytes (SipHash-1-3 with a key drawn per process),
128 bits in all:
nobody can aim for a collision, and at 100 million ids a chance one has a probability of about 1e-23.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MERGE_AT = 8


def digests(ids: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two independent 64-bit hashes per id; valid in this process only. Shapes: N, N."""
    return _first(ids), _second(ids)


def _first(ids: Sequence[bytes]) -> NDArray[np.int64]:
    # Python keeps it in the bytes object, and the join's dictionary has asked for it already.
    return np.fromiter(map(hash, ids), np.int64, len(ids))


def _second(ids: Sequence[bytes]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, [b"\x01" + i for i in ids]), np.int64, len(ids))


class _Segment:
    """Ids that ended by a certain time, sorted by their first hash."""

    __slots__ = ("first", "newest", "numbers", "second")

    def __init__(self, first: NDArray[np.int64], second: NDArray[np.int64], newest: int) -> None:
        order = np.argsort(first, kind="stable")
        self.first = first[order]
        self.second = second[order]
        self.newest = newest
        #: ``first`` once more, to look for a single one: an array takes as long as for a hundred.
        self.numbers: Sequence[int] = memoryview(self.first)  # type: ignore[arg-type]

    def candidates(self, first: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which first hashes stand here. Shape: N."""
        at = np.searchsorted(self.first, first)
        at[at == len(self.first)] = 0
        found: NDArray[np.bool_] = self.first[at] == first
        return found

    def may_contain(self, first: int) -> bool:
        """Does this first hash stand here?"""
        at = bisect_left(self.numbers, first)
        return at < len(self.numbers) and self.numbers[at] == first

    def contains(self, first: int, second: int) -> bool:
        """Does this pair stand here?"""
        begin = int(np.searchsorted(self.first, first))
        end = int(np.searchsorted(self.first, first, side="right"))
        return bool((self.second[begin:end] == second).any())


class ClosedIndex:
    """A set of ended requests that forgets by log time."""

    def __init__(self) -> None:
        self._segments: list[_Segment] = []

    def __len__(self) -> int:
        return sum(len(segment.first) for segment in self._segments)

    def add(self, ids: Sequence[bytes], newest: int) -> None:
        """Remember ids that ended at or before append time ``newest`` (ms)."""
        if ids:
            self.add_digests(*digests(ids), newest)

    def add_digests(self, first: NDArray[np.int64], second: NDArray[np.int64], newest: int) -> None:
        """The same for ids already hashed by :func:`digests`."""
        if not len(first):
            return
        self._segments.append(_Segment(first, second, newest))
        if len(self._segments) > _MERGE_AT:
            self._merge_smallest_neighbours()

    def contains(self, ids: Sequence[bytes]) -> NDArray[np.bool_]:
        """Which of N ids have ended. Shape: N."""
        found = np.zeros(len(ids), np.bool_)
        if not self._segments or not ids:
            return found
        first = _first(ids)
        # In order the search walks through memory instead of jumping about in it.
        order = np.argsort(first)
        ordered = first[order]
        maybe = self._segments[0].candidates(ordered)
        for segment in self._segments[1:]:
            maybe |= segment.candidates(ordered)
        places = order[maybe].tolist()
        seconds = _second([ids[place] for place in places]).tolist()
        for place, second in zip(places, seconds, strict=True):
            found[place] = any(segment.contains(first[place], second) for segment in self._segments)
        return found

    def has(self, request_id: bytes) -> bool:
        """Whether one id has ended."""
        first = hash(request_id)
        if not any(segment.may_contain(first) for segment in self._segments):
            return False
        return bool(self.contains([request_id])[0])

    def expire(self, before: int) -> None:
        """Forget what ended before append time ``before`` (ms)."""
        self._segments = [segment for segment in self._segments if segment.newest >= before]

    def _merge_smallest_neighbours(self) -> None:
        sizes = [len(segment.first) for segment in self._segments]
        at = min(range(len(sizes) - 1), key=lambda i: sizes[i] + sizes[i + 1])
        left, right = self._segments[at], self._segments[at + 1]
        self._segments[at : at + 2] = [
            _Segment(
                np.concatenate((left.first, right.first)),
                np.concatenate((left.second, right.second)),
                max(left.newest, right.newest),
            )
        ]
