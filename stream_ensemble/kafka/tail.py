"""Reading one partition's log aside from the group: back to a time, up to an end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.kafka.chunks import Chunk, Columns
from stream_ensemble.kafka.end_proofs import READ_COMMITTED, READ_UNCOMMITTED, EndProofs
from stream_ensemble.kafka.fetching import adopt


class LogReader:
    """A consumer without a group, for reading back. Use as an async context manager.

    Args:
        options: aiokafka client options.
        committed_only: leave out aborted and open transactions.
        timeout_s: how long one read may go without any progress.
    """

    def __init__(
        self, options: dict[str, Any], *, committed_only: bool = False, timeout_s: float = 30.0
    ) -> None:
        self._timeout_s = timeout_s
        self._isolation_level = READ_COMMITTED if committed_only else READ_UNCOMMITTED
        self._consumer = AIOKafkaConsumer(
            **options,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed" if committed_only else "read_uncommitted",
            fetch_max_wait_ms=50,
            max_partition_fetch_bytes=4 << 20,
        )

    async def __aenter__(self) -> LogReader:
        await self._consumer.start()
        adopt(self._consumer)
        self._proofs = EndProofs(self._consumer._client, self._isolation_level)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._consumer.stop()

    async def begin_and_end(self, tp: TopicPartition) -> tuple[int, int]:
        """First offset there is, and the offset after the last."""
        spans = await self.spans([tp])
        return spans[tp]

    async def spans(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """:meth:`begin_and_end` of several partitions, asked for at once.

        Raises:
            ServerUnavailableError: an end could not be proved for ``timeout_s``.
        """
        begins = await self._consumer.beginning_offsets(tps)
        try:
            async with asyncio.timeout(self._timeout_s):
                ends = await self._proofs.proved(tps)
        except TimeoutError:
            names = ", ".join(sorted({tp.topic for tp in tps}))
            raise ServerUnavailableError(
                f"where partitions of {names} end could not be proved within {self._timeout_s:g} s; "
                "check that their leaders and other replicas are up"
            ) from None
        return {tp: (begins[tp], ends[tp]) for tp in tps}

    async def offset_at(self, tp: TopicPartition, timestamp_ms: int) -> int | None:
        """First offset appended at or after a time; None when there is none."""
        found = await self._consumer.offsets_for_times({tp: max(0, timestamp_ms)})
        if found[tp] is not None:
            return int(found[tp].offset)
        # One broker's word that there is none. If it lags, all there is may be what it does not know yet.
        async for columns in self._newest(tp, timestamp_ms):
            since = np.flatnonzero(columns.appended >= timestamp_ms)
            if len(since):
                return int(columns.offsets[since[0]])
        return None

    async def read(self, tp: TopicPartition, start: int, end: int) -> AsyncIterator[Columns]:
        """All records of ``tp`` from ``start`` up to (not including) ``end``, chunk by chunk.

        Raises:
            ServerUnavailableError: nothing could be read for ``timeout_s``.
        """
        if start >= end:
            return
        self._consumer.assign([tp])
        self._consumer.seek(tp, start)
        deadline = time.monotonic() + self._timeout_s
        while await self._position(tp) < end:
            chunks: dict[TopicPartition, list[Chunk]] = await self._consumer.getmany(timeout_ms=1000)
            for chunk in chunks.get(tp, ()):
                deadline = time.monotonic() + self._timeout_s
                columns = _before(chunk.columns(), end)
                if columns.records:
                    yield columns
            if time.monotonic() > deadline:
                raise ServerUnavailableError(
                    f"{tp.topic} partition {tp.partition} could not be read up to offset {end} "
                    f"within {self._timeout_s:g} s; "
                    "check that its leader is up"
                )

    async def first_time(self, tp: TopicPartition, start: int, end: int) -> int | None:
        """Append time (ms) of the first record from ``start`` on; None when there is none before ``end``."""
        async for columns in self.read(tp, start, end):
            return int(columns.appended[0])
        return None

    async def last_time(self, tp: TopicPartition) -> int | None:
        """Append time (ms) of the last record; None when the partition holds none."""
        newest = None
        async for columns in self._newest(tp):
            newest = int(columns.appended[-1])
        return newest

    async def _newest(self, tp: TopicPartition, since_ms: int | None = None) -> AsyncIterator[Columns]:
        """The last records, up to the proved end: some, from one appended before ``since_ms`` on if there is
        any. None, if there are no records.
        """
        begin, end = await self.begin_and_end(tp)
        reach = 16
        while True:
            start = max(begin, end - reach)
            first = await self.first_time(tp, start, end)
            if start == begin or (first is not None and (since_ms is None or first < since_ms)):
                break
            reach *= 16
        async for columns in self.read(tp, start, end):
            yield columns

    async def _position(self, tp: TopicPartition) -> int:
        async with asyncio.timeout(self._timeout_s):
            position: int = await self._consumer.position(tp)
        return position


def _before(columns: Columns, end: int) -> Columns:
    keep = int((columns.offsets < end).sum())
    if keep == len(columns.records):
        return columns
    return Columns(columns.records[:keep], columns.offsets[:keep], columns.appended[:keep])


async def oldest_time(reader: LogReader, positions: Sequence[tuple[TopicPartition, int]]) -> int | None:
    """The least append time among the first records from these positions on; None when all are at their
    ends."""
    times = []
    spans = await reader.spans([tp for tp, _ in positions])
    for tp, offset in positions:
        begin, end = spans[tp]
        found = await reader.first_time(tp, max(begin, offset), end)
        if found is not None:
            times.append(found)
    return min(times, default=None)
