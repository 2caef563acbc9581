"""Publishing to one topic by canonical partition: by batches, idempotent, acknowledged by all replicas.

Delivery: ``send`` returns when the broker has acknowledged every record. When it raises, some may have been
written, and after a time-out some may still be: sending all again is safe, for a second one is a duplicate.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from numpy.typing import NDArray

from stream_ensemble import config
from stream_ensemble.core.partitioning import partition_of, partitions_of
from stream_ensemble.sdk.clients import close_producer, open_producer
from stream_ensemble.sdk.errors import InvalidInputError, answered_in_time
from stream_ensemble.sdk.lookup import Headers
from stream_ensemble.sdk.topics import require_topic

log = logging.getLogger(__name__)

#: Kafka's default limit of a batch, less room for the batch header and the record's own fields.
LARGEST_RECORD_BYTES = (1 << 20) - 512
#: Under this many records a call leaves batching to the client, so that many small calls share batches.
_SMALL_CALL = 16
#: What is handed to the client at once, and acknowledged before the next.
_CHUNK_RECORDS = 10_000
_CHUNK_BYTES = 16 << 20


class Record(NamedTuple):
    """One record to publish: to the canonical partition of its key, or without a key to ``partition``."""

    key: bytes | None
    value: bytes
    headers: Headers
    partition: int = -1

    def place(self, partitions: int) -> int:
        """The partition it goes to."""
        return self.partition if self.key is None else partition_of(self.key, partitions)


class TopicProducer:
    """Publishes records to one topic. Safe for concurrent calls of one event loop.

    The client below holds at most one batch in flight and one waiting for each partition; further calls wait.
    """

    def __init__(self, kafka: config.Kafka, topic: str, partitions: int) -> None:
        self.topic = topic
        self._kafka = kafka
        self._partitions = partitions
        self._producer: AIOKafkaProducer | None = None
        self._started = False
        self._spoiled = False
        self._opening = asyncio.Lock()
        # The client lets a call that waits for a place be overtaken until it times out; turns keep the order.
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._retiring: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connects.

        Raises:
            ServerUnavailableError: Kafka does not answer.
            TopologyError: the topic is missing or has another number of partitions than the settings say.
        """
        await require_topic(self._kafka, self.topic, self._partitions)
        self._started = True
        async with answered_in_time(self._kafka, self.topic):
            await self._healthy()

    async def stop(self) -> None:
        """Flushes what can be flushed within a few seconds and disconnects."""
        self._started = False
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer)
        if self._retiring:
            await asyncio.wait(self._retiring)

    async def send(self, records: Sequence[Record]) -> None:
        """Publishes ``records``; returns when all are acknowledged.

        Raises:
            InvalidInputError: a record is larger than Kafka takes by default.
            ServerUnavailableError: no acknowledgement within ``kafka.request_timeout_s``.
            RefusedError: the broker refused records.
        """
        for chunk in _chunks(records):
            async with answered_in_time(self._kafka, self.topic):
                await self._send_chunk(chunk)

    async def _send_chunk(self, records: Sequence[Record]) -> None:
        producer = await self._healthy()
        send = self._send_singly if len(records) < _SMALL_CALL else self._send_partitions
        try:
            await send(producer, records)
        except KafkaError:
            if self._producer is producer:
                self._spoiled = True
            raise

    async def _send_singly(self, producer: AIOKafkaProducer, records: Sequence[Record]) -> None:
        acknowledgements = [
            await producer.send(
                self.topic,
                record.value,
                record.key,
                partition=record.place(self._partitions),
                headers=record.headers,
            )
            for record in records
        ]
        await _all_of(acknowledgements)

    async def _send_partitions(self, producer: AIOKafkaProducer, records: Sequence[Record]) -> None:
        placed = _places(records, self._partitions)
        own = {
            partition: [records[row] for row in np.flatnonzero(placed == partition).tolist()]
            for partition in np.unique(placed).tolist()
        }
        await _all_of(self._send_batches(producer, partition, some) for partition, some in own.items())

    async def _send_batches(
        self, producer: AIOKafkaProducer, partition: int, records: Sequence[Record]
    ) -> None:
        acknowledgements: list[Awaitable[Any]] = []
        async with self._turns[partition]:
            batch = producer.create_batch()
            for key, value, headers, _ in records:
                if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                    acknowledgements.append(await producer.send_batch(batch, self.topic, partition=partition))
                    batch = producer.create_batch()
                    batch.append(timestamp=None, key=key, value=value, headers=headers)
            batch.close()
            acknowledgements.append(await producer.send_batch(batch, self.topic, partition=partition))
        await _all_of(acknowledgements)

    async def _healthy(self) -> AIOKafkaProducer:
        """The producer; a new one when the last failed a batch.

        After a failed batch the broker refuses every further one of that partition as out of order.
        """
        async with self._opening:
            if not self._started:
                raise RuntimeError(f"the publisher to {self.topic} is not open; use it inside `async with`")
            if self._producer is None or self._spoiled:
                fresh = open_producer(self._kafka)
                try:
                    await fresh.start()
                except BaseException:
                    await close_producer(fresh)
                    raise
                self._retire(self._producer)
                self._producer, self._spoiled = fresh, False
            return self._producer

    def _retire(self, producer: AIOKafkaProducer | None) -> None:
        if producer is None:
            return
        log.warning("a batch to %s failed; going on with a new producer", self.topic)
        stopping = asyncio.create_task(close_producer(producer))
        self._retiring.add(stopping)
        stopping.add_done_callback(self._retiring.discard)


def _places(records: Sequence[Record], partitions: int) -> NDArray[np.int32]:
    keys = [record.key for record in records if record.key is not None]
    if len(keys) == len(records):
        return partitions_of(keys, partitions)
    return np.array([record.place(partitions) for record in records], np.int32)


def _chunks(records: Sequence[Record]) -> list[Sequence[Record]]:
    """``records`` in portions that one time-out is long enough for, after looking at every size."""
    chunks: list[Sequence[Record]] = []
    first = held = 0
    for row, record in enumerate(records):
        size = len(record.key or b"") + len(record.value)
        if size > LARGEST_RECORD_BYTES:
            raise InvalidInputError(f"row {row}: {size} bytes, at most {LARGEST_RECORD_BYTES} fit a record")
        if row - first == _CHUNK_RECORDS or held + size > _CHUNK_BYTES:
            chunks.append(records[first:row])
            first, held = row, 0
        held += size
    return [*chunks, records[first:]]


async def _all_of(waits: Iterable[Awaitable[Any]]) -> None:
    """Waits for every one, then raises the first error: no record's fate is left unknown by another's."""
    for result in await asyncio.gather(*waits, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
