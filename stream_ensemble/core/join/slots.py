"""The open requests of one partition as a ring of array rows.

Slot numbers only grow; slot s lives in row ``s & mask``. Requests open in slot order, so all that is
decided and acknowledged at the front can be cut off at once, and a scan over the open ones is a scan over a
contiguous range.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.join.slot_table import slot_table

FREE, OPEN, DECIDED, RELEASED = 0, 1, 2, 3
_FIRST_CAPACITY = 1 << 12

Number = TypeVar("Number")


class Numbers(Protocol[Number]):
    """What is used of a memoryview."""

    @overload
    def __getitem__(self, place: int, /) -> Number: ...
    @overload
    def __getitem__(self, places: slice, /) -> Numbers[Number]: ...
    def __setitem__(self, place: int, number: Number, /) -> None: ...
    def tolist(self) -> list[Number]:
        """All of them."""


class Cells(NamedTuple):
    """The same memory as the arrays of the same names, to read and write one number at a time.

    A number of an array costs several times what one of a memoryview does (whose type ours stands for).
    Arrays of more dimensions stand here row after row.
    """

    state: Numbers[int]
    outputs: Numbers[float]
    offsets: Numbers[int]
    answered: Numbers[int]
    awake: Numbers[int]
    abstained: Numbers[int]
    expected: Numbers[int]
    at: Numbers[int]
    first_appended: Numbers[int]
    due_appended: Numbers[int]
    due_monotonic: Numbers[float]
    first_read: Numbers[float]
    early: Numbers[bool]


class Slots:
    """Arrays per partition; K members, V numbers per output.

    Attributes (shapes by capacity N):
        state N; outputs N x K x V; offsets N x (K+1) (column K: the requests record); rows N x K (the row
        within a columnar record); answered, awake, abstained, expected N (bit masks of members); at,
        first_appended, due_appended N (ms); due_monotonic, first_read N (s); ids N (bytes).
    """

    def __init__(self, members: int, values: int) -> None:
        self.members = members
        self.values = values
        self.low = 0
        self.high = 0
        self.slot_of = slot_table()
        self.segment_of: dict[int, str] = {}
        self.trace_of: dict[int, bytes] = {}
        #: Whether any prediction came in a columnar record, so that ``rows`` is worth reading.
        self.columnar = False
        self._allocate(_FIRST_CAPACITY)

    def _allocate(self, capacity: int) -> None:
        self.mask = capacity - 1
        self.state = np.zeros(capacity, np.uint8)
        self.outputs = np.zeros((capacity, self.members, self.values))
        self.offsets = np.full((capacity, self.members + 1), -1, np.int64)
        self.rows = np.zeros((capacity, self.members), np.int32)
        self.answered = np.zeros(capacity, np.uint64)
        self.awake = np.zeros(capacity, np.uint64)
        self.abstained = np.zeros(capacity, np.uint64)
        self.expected = np.zeros(capacity, np.uint64)
        self.at = np.zeros(capacity, np.int64)
        self.first_appended = np.zeros(capacity, np.int64)
        self.due_appended = np.zeros(capacity, np.int64)
        self.due_monotonic = np.zeros(capacity)
        self.first_read = np.zeros(capacity)
        self.early = np.zeros(capacity, np.bool_)
        self.ids = np.empty(capacity, np.object_)
        #: Scratch: the last place in a chunk at which a cell (row, member) was named.
        self.seen_at = np.zeros((capacity, self.members), np.int32)
        views: list[Any] = [memoryview(getattr(self, name).reshape(-1)) for name in Cells._fields]
        self.cells = Cells._make(views)

    @property
    def capacity(self) -> int:
        """Rows there are."""
        return self.mask + 1

    def slots_for(self, ids: list[bytes]) -> NDArray[np.int64]:
        """Slot of every id; an unknown one gets the next number.

        Shape: N. Call :meth:`cover` before using the rows.
        """
        numbers = np.empty(len(ids), np.int64)
        self.slot_of.fill(ids, numbers)
        return numbers

    def cover(self, high: int) -> None:
        """Make rows for all slots below ``high``; the arrays may be replaced."""
        if high - self.low > self.capacity:
            self._grow(high - self.low)
        self.high = max(self.high, high)

    def _grow(self, needed: int) -> None:
        capacity = self.capacity
        while capacity < needed:
            capacity *= 2
        live = np.arange(self.low, self.high)
        old_rows = live & self.mask
        old = {name: getattr(self, name) for name in _ARRAYS}
        self._allocate(capacity)
        new_rows = live & self.mask
        for name in _ARRAYS:
            getattr(self, name)[new_rows] = old[name][old_rows]

    def row(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Array rows of slots."""
        return slots & self.mask

    def range(self) -> NDArray[np.int64]:
        """All live slots, oldest first."""
        return np.arange(self.low, self.high)

    def stretches(self) -> list[slice]:
        """The rows of all live slots, oldest first: one stretch of the ring, or two where it begins anew."""
        begin, n = self.low & self.mask, self.high - self.low
        end = min(begin + n, self.capacity)
        return [slice(begin, end), slice(0, n - (end - begin))]

    def forget(self, ids: list[bytes], slots: NDArray[np.int64]) -> None:
        """Take back slots that were just given out: their ids open nothing here."""
        self.slot_of.forget(ids)
        self.state[self.row(slots)] = RELEASED

    def released_prefix(self) -> int:
        """The first slot that is not released: everything before it may be cut off."""
        live = self.range()
        held = np.flatnonzero(self.state[self.row(live)] != RELEASED)
        return int(live[held[0]]) if len(held) else self.high

    def cut(self, upto: int) -> list[bytes]:
        """Drop all slots before ``upto`` and return their ids (void ones are left out)."""
        rows = self.row(np.arange(self.low, upto))
        ids: list[bytes] = [i for i in self.ids[rows].tolist() if i is not None]
        self.slot_of.forget(ids)
        for sparse in (self.segment_of, self.trace_of):
            for slot in [slot for slot in sparse if slot < upto]:
                del sparse[slot]
        self.state[rows] = FREE
        self.ids[rows] = None
        self.low = upto
        return ids


_ARRAYS = (
    "state",
    "outputs",
    "offsets",
    "rows",
    "answered",
    "awake",
    "abstained",
    "expected",
    "at",
    "first_appended",
    "due_appended",
    "due_monotonic",
    "first_read",
    "early",
    "ids",
    "seen_at",
)
