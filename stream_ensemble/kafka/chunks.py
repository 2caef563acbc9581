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
        raws: the bytes of each batch, where they are known.
    """

    __slots__ = ("_runs", "batches", "first", "next_offset", "raws", "size", "start", "tp")

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

    def runs(self) -> list[Run]:
        """The records batch by batch. Decompresses, once."""
        if self._runs is None:
            runs = map(self._run, self.batches)
            self._runs = [run for run in runs if run.records]
        return self._runs

    def _run(self, batch: Any) -> Run:
        records = list(batch)
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
