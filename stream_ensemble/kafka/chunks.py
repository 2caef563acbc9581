"""A chunk: all records of one topic partition that one fetch brought, still as Kafka's record batches."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from aiokafka.structs import TopicPartition
from numpy.typing import NDArray

LOG_APPEND_TIME = 1

Headers = list[tuple[str, bytes]]


class Chunk:
    """Record batches of one topic partition, aborted transactions and control records left out.

    Attributes:
        first: the position this fetch started from; records before it in a compressed batch are not ours.
        next_offset: the position after it; may be beyond the last record (control records, compaction).
        size: bytes as fetched, compressed.
        start: which start of reading it belongs to, see ``ChunkConsumer.is_current``.
    """

    __slots__ = ("batches", "first", "next_offset", "size", "start", "tp")

    def __init__(
        self,
        tp: TopicPartition,
        first: int,
        next_offset: int,
        batches: list[Any],
        *,
        start: int = 0,
        size: int = 0,
    ) -> None:
        self.size = size
        self.start = start
        self.tp = tp
        self.first = first
        self.next_offset = next_offset
        self.batches = batches

    def columns(self) -> Columns:
        """The records as columns. Decompresses; call once."""
        records: list[Any] = []
        appended: list[NDArray[np.int64]] = []
        offsets: list[NDArray[np.int64]] = []
        for batch in self.batches:
            rows = list(batch)
            if rows and rows[0].offset < self.first:
                rows = [row for row in rows if row.offset >= self.first]
            if not rows:
                continue
            records += rows
            n = len(rows)
            if rows[-1].offset - rows[0].offset == n - 1:
                offsets.append(np.arange(rows[0].offset, rows[0].offset + n))
            else:
                offsets.append(np.array([row.offset for row in rows], np.int64))
            if batch.timestamp_type == LOG_APPEND_TIME:
                appended.append(np.full(n, batch.max_timestamp, np.int64))
            else:
                appended.append(np.array([row.timestamp for row in rows], np.int64))
        if not records:
            return Columns([], np.empty(0, np.int64), np.empty(0, np.int64))
        return Columns(records, np.concatenate(offsets), np.concatenate(appended))


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
