"""One partition of a topic on the simulated broker: batches, control records, transactions, sequences."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from stream_ensemble.kafka.chunks import LOG_APPEND_TIME

#: A name in ``aiokafka.errors``.
TOO_LARGE = "MessageSizeTooLargeError"


class Record(msgspec.Struct, gc=False):
    """A record in the log, as a consumer sees it."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Any]
    timestamp: int


class Batch:
    """What one produce request appended; what a ``Chunk`` holds of it."""

    __slots__ = (
        "aborted",
        "base",
        "control",
        "epoch",
        "max_timestamp",
        "open",
        "pid",
        "records",
        "stands_since",
        "timestamp_type",
    )

    def __init__(self, base: int, records: list[Record], appended: int, pid: int, epoch: int) -> None:
        self.base = base
        self.records = records
        self.max_timestamp = appended
        self.timestamp_type = LOG_APPEND_TIME
        self.pid = pid
        self.epoch = epoch
        self.control = False
        #: Of a transaction that has not ended.
        self.open = False
        self.aborted = False
        #: When it was appended (ms), or its transaction committed.
        self.stands_since = appended

    @property
    def base_offset(self) -> int:
        """The offset of its first record, as aiokafka calls it."""
        return self.base

    @property
    def next_offset(self) -> int:
        """The offset after it: a control record takes one too."""
        return self.base + (len(self.records) or 1)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)


class Refusal(NamedTuple):
    """Why the leader did not take a batch: a name in ``aiokafka.errors``."""

    error: str


class _Producer:
    """What the leader remembers of a producer id here."""

    __slots__ = ("base", "count", "epoch", "next", "sequence")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.next = 0
        self.sequence = -1
        self.base = -1


class PartitionLog:
    """The log of one topic partition.

    Attributes:
        refusals: why the next batches are refused, one each, as names in ``aiokafka.errors``.
        too_large: whether all are, for their size.
        refused: why batches were refused so, and when the first was (ms), since somebody looked.
    """

    def __init__(self) -> None:
        self.refusals: list[str] = []
        self.too_large = False
        self.refused: dict[str, int] = {}
        self.batches: list[Batch] = []
        self._bases: list[int] = []
        self.end = 0
        self._producers: dict[int, _Producer] = {}
        self._open: dict[int, list[Batch]] = {}

    @property
    def stable_end(self) -> int:
        """The last stable offset."""
        if not self._open:
            return self.end
        return min((batches[0].base for batches in self._open.values() if batches), default=self.end)

    def append(
        self,
        records: Sequence[tuple[bytes | None, bytes | None, Sequence[Any]]],
        now_ms: int,
        producer: tuple[int, int, int] | None = None,
        *,
        transactional: bool = False,
    ) -> int | Refusal:
        """Append records; ``producer`` is (id, epoch, sequence) with idempotence. Returns the base offset."""
        if self.refusals or self.too_large:
            why = self.refusals.pop() if self.refusals else TOO_LARGE
            self.refused.setdefault(why, now_ms)
            return Refusal(why)
        pid, epoch = -1, -1
        if producer is not None:
            pid, epoch, sequence = producer
            known = self._producers.get(pid)
            if known is not None and epoch < known.epoch:
                return Refusal("InvalidProducerEpoch")
            if known is None or epoch > known.epoch:
                known = _Producer(epoch)
                if sequence != 0:
                    return Refusal("OutOfOrderSequenceNumber")
                self._producers[pid] = known
            if sequence == known.sequence:
                return known.base
            if sequence != known.next:
                return Refusal("OutOfOrderSequenceNumber")
            known.sequence, known.base, known.next = sequence, self.end, sequence + len(records)
        base = self.end
        found = [
            Record(base + i, key, value, headers, now_ms) for i, (key, value, headers) in enumerate(records)
        ]
        batch = self._add(Batch(base, found, now_ms, pid, epoch))
        if transactional:
            batch.open = True
            self._open.setdefault(pid, []).append(batch)
        return base

    def mark(self, pid: int, epoch: int, now_ms: int, ended_ms: int, *, committed: bool) -> None:
        """End a transaction here that the coordinator has ended at ``ended_ms``; from now on older epochs are
        refused.
        """
        batch = Batch(self.end, [], now_ms, pid, epoch)
        batch.control = True
        for ended in self._open.pop(pid, ()):
            ended.open = False
            ended.aborted = not committed
            ended.stands_since = ended_ms
        self._add(batch)
        known = self._producers.get(pid)
        if known is None or epoch > known.epoch:
            self._producers[pid] = _Producer(epoch)

    def _add(self, batch: Batch) -> Batch:
        self.batches.append(batch)
        self._bases.append(batch.base)
        self.end = batch.next_offset
        return batch

    def read(
        self, offset: int, *, committed: bool, limit: int = 1 << 30, until: int = 1 << 62
    ) -> tuple[list[Batch], int]:
        """At most ``limit`` batches from ``offset`` on, before ``until``, and the position after them."""
        end = min(until, self.stable_end if committed else self.end)
        if offset >= end:
            return [], offset
        place = max(0, bisect_right(self._bases, offset) - 1)
        found: list[Batch] = []
        for batch in islice(self.batches, place, None):
            if batch.base >= end or len(found) >= limit:
                break
            offset = batch.next_offset
            if not batch.control and not (committed and batch.aborted):
                found.append(batch)
        return found, offset

    def offset_at(self, timestamp_ms: int) -> int | None:
        """First offset appended at or after a time."""
        return next((batch.base for batch in self.batches if batch.max_timestamp >= timestamp_ms), None)

    def records(self) -> list[tuple[Batch, Record]]:
        """All that a reader of committed transactions sees."""
        return [
            (batch, record)
            for batch in self.batches
            if not (batch.control or batch.aborted or batch.open)
            for record in batch.records
        ]
