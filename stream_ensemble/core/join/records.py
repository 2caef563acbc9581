"""What goes into and comes out of the join: columns, one row per prediction or request."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: ``at`` of a record that does not say when its request was made.
NO_TIME = -1


class Answer(IntEnum):
    """How a member answered."""

    OUTPUT = 0
    ABSTAIN = 1
    ERROR = 2


class Status(IntEnum):
    """The four ends of a request."""

    COMPLETE = 0
    PARTIAL = 1
    FALLBACK = 2
    EXPIRED = 3


class Cause(IntEnum):
    """Why a request ended other than complete."""

    NONE = 0
    DEADLINE = 1
    SILENT = 2
    UNREADABLE = 3
    CAPACITY = 4
    EARLY = 5
    QUORUM = 6


class Verdict(IntEnum):
    """What becomes of one record."""

    USED = 0
    LATE = 1
    UNNEEDED = 2
    DUPLICATE = 3
    FORWARD = 4
    REPLAYED = 5


@dataclass(slots=True)
class Predictions:
    """N predictions, those of one member in log order.

    Shapes: ids N; outputs N x V (V numbers per output, zeros where there is none); the others N. ``member``
    is one number when all are of one member, which is faster for many. ``at`` and ``appended`` are
    milliseconds since the epoch; ``rows`` is the row within a columnar record, absent where all are 0.
    """

    member: int | NDArray[np.int64]
    ids: list[bytes]
    outputs: NDArray[np.float64]
    answers: NDArray[np.uint8] | None
    at: NDArray[np.int64]
    appended: NDArray[np.int64]
    offsets: NDArray[np.int64]
    rows: NDArray[np.int32] | None = None
    segments: dict[int, str] = field(default_factory=dict)
    #: Row numbers of records that were forwarded to this partition: never forwarded again.
    forwarded: frozenset[int] = frozenset()
    #: Trace context by row, passed on as it is.
    traces: dict[int, bytes] = field(default_factory=dict)

    def members(self) -> list[int]:
        """Whose predictions these are, each once."""
        if isinstance(self.member, int):
            return [self.member]
        return sorted(set(self.member.tolist()))

    def member_of(self, row: int) -> int:
        """Whose prediction row ``row`` is."""
        return self.member if isinstance(self.member, int) else int(self.member[row])

    def of(self, places: NDArray[np.intp]) -> Predictions:
        """Some of the rows, in this order."""
        new = {place: row for row, place in enumerate(places.tolist())}
        return Predictions(
            self.member if isinstance(self.member, int) else self.member[places],
            [self.ids[place] for place in new],
            self.outputs[places],
            None if self.answers is None else self.answers[places],
            self.at[places],
            self.appended[places],
            self.offsets[places],
            None if self.rows is None else self.rows[places],
            {new[place]: segment for place, segment in self.segments.items() if place in new},
            frozenset(new[place] for place in self.forwarded if place in new),
            {new[place]: trace for place, trace in self.traces.items() if place in new},
        )


class Single(NamedTuple):
    """One prediction with an output, as :class:`Predictions` has many; ``output`` holds V numbers."""

    member: int
    request_id: bytes
    output: list[float]
    at: int
    appended: int
    offset: int
    segment: str | None = None
    trace: bytes | None = None


@dataclass(slots=True)
class Requests:
    """N requests of one topic partition, in log order; see ``messages.Request``.

    ``expected`` holds a bit mask of members or 0 for all; ``deadline_ms`` 0 means the ensemble's.
    """

    topic: int
    ids: list[bytes]
    at: NDArray[np.int64]
    appended: NDArray[np.int64]
    offsets: NDArray[np.int64]
    expected: NDArray[np.uint64]
    deadline_ms: NDArray[np.int64]
    segments: dict[int, str] = field(default_factory=dict)
    forwarded: frozenset[int] = frozenset()
    traces: dict[int, bytes] = field(default_factory=dict)


class Added(NamedTuple):
    """What became of N rows (``verdicts``, shape N), and the requests that ended by them.

    ``slots`` holds the slot of every row that was used, in order; one may stand twice.
    """

    verdicts: NDArray[np.uint8]
    decided: Decided
    slots: NDArray[np.int64]


@dataclass(slots=True)
class Decided:
    """R requests that just ended, oldest first. ``slots`` name them to the join until they are released."""

    slots: NDArray[np.int64]
    status: NDArray[np.uint8]
    cause: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.slots)


_NOTHING = Decided(np.empty(0, np.int64), np.empty(0, np.uint8), np.empty(0, np.uint8))


def nothing_decided() -> Decided:
    """The Decided of no requests."""
    return _NOTHING


def joined(parts: list[Decided]) -> Decided:
    """Several Decided as one, in order."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return nothing_decided()
    return Decided(
        np.concatenate([part.slots for part in parts]),
        np.concatenate([part.status for part in parts]),
        np.concatenate([part.cause for part in parts]),
    )
