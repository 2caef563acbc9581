"""What the requests of one partition are judged by. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_EVER = np.iinfo(np.int64).max
#: So long it may take until a record is read, or an answer is written.
UNDER_WAY_MS = 500


@dataclass(frozen=True, slots=True)
class Silences:
    """The times in which nothing of one member was appended: N pairs, begin and end (ms), in order."""

    begins: NDArray[np.int64]
    ends: NDArray[np.int64]

    def last(self, times: NDArray[np.int64], at_least: int) -> NDArray[np.bool_]:
        """Which of N answers, by their append times, somebody wrote who had seen ``at_least`` ms of silence.

        What the member said at the same moment, when it came back, was not known yet.
        """
        decided = times - UNDER_WAY_MS
        found = np.zeros(len(times), np.bool_)
        for moments in (times, decided):
            place = np.maximum(np.searchsorted(self.begins, moments, side="right") - 1, 0)
            first = np.maximum(self.begins[place] + at_least, decided)
            found |= first <= np.minimum(self.ends[place], times)
        return found


def always_silent() -> Silences:
    """Of a member without any record."""
    return Silences(np.array([-_EVER]), np.array([_EVER]))


class SilenceFinder:
    """Finds the silences of one member as its records go by.

    Args:
        shortest_ms: shorter ones are not kept.
    """

    def __init__(self, shortest_ms: int) -> None:
        self._shortest_ms = shortest_ms
        self._last = -_EVER
        self._found: list[tuple[int, int]] = []

    def see(self, appended: NDArray[np.int64]) -> None:
        """The append times of the next records."""
        times = np.concatenate(([self._last], appended))
        if self._last == -_EVER:
            self._found.append((-_EVER, int(appended[0])))
            times = appended
        long = np.flatnonzero(np.diff(times) >= self._shortest_ms)
        self._found += zip(times[long].tolist(), times[long + 1].tolist(), strict=True)
        self._last = int(times[-1])

    def silences(self) -> Silences:
        """All of them, the one after the last record included."""
        pairs = np.array([*self._found, (self._last, _EVER)], np.int64)
        return Silences(pairs[:, 0], pairs[:, 1])


@dataclass(frozen=True, slots=True)
class Terms:
    """How one partition is judged.

    Attributes:
        deadline_ms: of a request that does not set its own.
        tolerance_ms: how far clocks of brokers may differ.
        silence_after_ms: as in the settings.
        since, until: append times (ms) between which a request's first record stands; None: no bound.
        firsts: the first offset read of each topic: what a source names before it is gone.
        whole: every topic was read from its very first record.
        fused_begins: append time of the first fused record there is; None where the topic was never cut.
        newest: the latest append time read.
        shadows: members (numbers) that the settings have in shadow: what they say opens nothing.
    """

    partition: int
    deadline_ms: int
    silence_after_ms: int
    tolerance_ms: int = 0
    since: int | None = None
    until: int | None = None
    firsts: tuple[int, ...] = ()
    whole: bool = True
    fused_begins: int | None = None
    newest: int = 0
    silences: dict[int, Silences] = field(default_factory=dict)
    shadows: frozenset[int] = frozenset()
