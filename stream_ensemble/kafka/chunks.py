"""A chunk: all records of one topic partition that one fetch brought, still as Kafka's record batches."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from aiokafka.structs import TopicPartition
from numpy.typing import NDArray

from stream_ensemble import compiled
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.raw_batches import RawBatch, opened, plain_records, without_compression
from stream_ensemble.kafka.unpacking import MOST, unreadable

log = logging.getLogger(__name__)

LOG_APPEND_TIME = 1
#: So much of an unreadable batch goes to the dead-letter topic.
_SHOWN = 64 << 10

Headers = list[tuple[str, bytes]]


class Chunk:
    """Record batches of one topic partition, aborted transactions and control records left out.

    Attributes:
        first: the position this fetch started from; records before it in a compressed batch are not ours.
        next_offset: the position after it; may be beyond the last record (control records, compaction).
        size: bytes as fetched, compressed.
        start: which start of reading it belongs to, see ``ChunkConsumer.is_current``.
        raws: the bytes of each batch, where they are known.
    """

    __slots__ = ("_opened", "_runs", "batches", "first", "next_offset", "raws", "size", "start", "tp")

    def __init__(
        self,
        tp: TopicPartition,
        first: int,
        next_offset: int,
        batches: list[Any],
        *,
        start: int = 0,
        size: int = 0,
        raws: list[memoryview] | None = None,
    ) -> None:
        self.raws = raws
        self.size = size
        self.start = start
        self.tp = tp
        self.first = first
        self.next_offset = next_offset
        self.batches = batches
        self._runs: list[Run] | None = None
        self._opened: list[RawBatch | RecordError | None] | None = None

    def opened(self) -> list[RawBatch | RecordError | None]:
        """Each batch unpacked, once; why not, where that cannot be; None where its bytes are not known or
        have a format of long ago.
        """
        if self._opened is None:
            raws = self.raws if self.raws is not None else []
            left = MOST
            self._opened = []
            for raw in raws:
                one = _opened(raw, left)
                if isinstance(one, RawBatch) and one.packed:
                    left -= len(one.records)
                self._opened.append(one)
        return self._opened

    def runs(self) -> list[Run]:
        """The records batch by batch, read once. Of a batch that cannot be read: one ``UnreadableBatch``."""
        if self._runs is None:
            raws: list[memoryview | None] = [None] * len(self.batches) if self.raws is None else [*self.raws]
            ready = self.opened() or [None] * len(self.batches)
            runs = map(self._run, self.batches, raws, ready)
            self._runs = [run for run in runs if run.records]
        return self._runs

    def _run(self, batch: Any, raw: memoryview | None, ready: RawBatch | RecordError | None) -> Run:
        records: list[Any]
        try:
            records = _records(batch, raw, ready)
        except RecordError as error:
            records = [_unreadable(self.tp, self.first, batch, raw, error)]
        if records and records[0].offset < self.first:
            records = [record for record in records if record.offset >= self.first]
        return Run(records, batch.max_timestamp if batch.timestamp_type == LOG_APPEND_TIME else None)

    def newest(self) -> int:
        """The newest append time (ms); -1 where there are no records."""
        return max(
            (
                max(record.timestamp for record in records) if time is None else time
                for records, time in self.runs()
            ),
            default=-1,
        )

    def columns(self) -> Columns:
        """The records as columns."""
        records: list[Any] = []
        appended: list[NDArray[np.int64]] = []
        offsets: list[NDArray[np.int64]] = []
        for rows, time in self.runs():
            records += rows
            n = len(rows)
            if rows[-1].offset - rows[0].offset == n - 1:
                offsets.append(np.arange(rows[0].offset, rows[0].offset + n))
            else:
                offsets.append(np.array([row.offset for row in rows], np.int64))
            if time is not None:
                appended.append(np.full(n, time, np.int64))
            else:
                appended.append(np.array([row.timestamp for row in rows], np.int64))
        if not records:
            return Columns([], np.empty(0, np.int64), np.empty(0, np.int64))
        return Columns(records, np.concatenate(offsets), np.concatenate(appended))


def _opened(raw: memoryview, most: int) -> RawBatch | RecordError | None:
    try:
        return opened(raw, most)
    except RecordError as error:
        return error


def _records(batch: Any, raw: memoryview | None, ready: RawBatch | RecordError | None) -> list[Any]:
    """All records of a batch, in their order.

    Raises:
        RecordError: ``unreadable-batch``.
    """
    if isinstance(ready, RecordError):
        raise ready
    records = _parsed(batch, raw, ready)
    offsets = [record.offset for record in records]
    if any(b <= a for a, b in pairwise([batch.base_offset - 1, *offsets, batch.next_offset])):
        # Brokers take these as they are where a batch is not compressed.
        raise unreadable("its records do not count up from its first offset to its last")
    return records


def _parsed(batch: Any, raw: memoryview | None, ready: RawBatch | None) -> list[Any]:
    if compiled.AVAILABLE and ready is not None and not compiled.reading.whole(ready.records, ready.n):
        # aiokafka may read beyond the end of what is cut, and take what happens to stand there.
        return list(plain_records(ready))
    unpacked = batch if raw is None or ready is None or not ready.packed else without_compression(raw, ready)
    try:
        return list(unpacked)
    except Exception as error:  # Whatever it is, bytes alone can have led to it.
        if ready is None:
            raise unreadable(f"{error!r}") from None
        return list(plain_records(ready))


class UnreadableBatch(NamedTuple):
    """Stands for all records of a batch that cannot be read: no reader takes ``value`` for a message.

    Attributes:
        value: the bytes of the batch, or their beginning.
        error: why.
    """

    offset: int
    timestamp: int
    error: RecordError
    value: bytes
    key: None = None
    headers: Headers = []  # noqa: RUF012 - nobody adds to it


def _unreadable(
    tp: TopicPartition, first: int, batch: Any, raw: memoryview | None, error: RecordError
) -> UnreadableBatch:
    last = batch.next_offset - 1
    begin = max(first, min(batch.base_offset, last))
    whole = raw if raw is not None else memoryview(b"")
    detail = (
        f"the batch with the records at offsets {begin} to {last}: {error.detail}; "
        f"of its {len(whole):,} bytes here are the first {min(len(whole), _SHOWN):,}"
    )
    log.error(
        "%s partition %d: %s; find out who wrote it, mend that, and have these records published again",
        *tp,
        detail,
    )
    value = whole[:_SHOWN].tobytes() or b"\0"
    return UnreadableBatch(begin, batch.max_timestamp, RecordError(error.reason, detail), value)


class Run(NamedTuple):
    """Records of one batch (``key``, ``value``, ``headers``, ``offset``, ``timestamp``), and when all were
    appended (ms); None where each says so itself.
    """

    records: list[Any]
    appended: int | None


class Columns(NamedTuple):
    """N records (``key``, ``value``, ``headers``) with their offsets and append times (ms). Shapes: N."""

    records: list[Any]
    offsets: NDArray[np.int64]
    appended: NDArray[np.int64]


class EndEvidence(NamedTuple):
    """A fetch sent at monotonic ``asked_at`` (s) from ``offset`` was answered: that is the last stable
    end."""

    asked_at: float
    offset: int


class Row(NamedTuple):
    """One row of a columnar record as a record of its own: what is written where the row has to move."""

    key: bytes | None
    value: bytes | None
    headers: Headers
