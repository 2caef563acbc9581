"""One producer for all partitions a worker owns, each written under a fence of its own.

Leans on aiokafka 0.14's private sender and accumulator; ``tests/contract/test_private_api.py`` fails when
they move.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerClosed, ProducerFenced
from aiokafka.producer.transaction_manager import PidAndEpoch, TransactionManager
from aiokafka.structs import TopicPartition

from stream_ensemble.kafka.batch_builder import batch_builder
from stream_ensemble.kafka.chunks import Headers
from stream_ensemble.kafka.fence import Fence, fence
from stream_ensemble.kafka.frames import JoiningClient

_NO_TRANSACTION_TIMEOUT = 2**31 - 1


class _FencedSequences(TransactionManager):
    """aiokafka's idempotence state with a (producer id, epoch, sequence) per fenced partition.

    aiokafka asks for the sequence number of a batch's partition first and for id and epoch right after,
    which is what ``_current`` relies on.
    """

    def __init__(self) -> None:
        super().__init__(None, _NO_TRANSACTION_TIMEOUT)
        self._fences: dict[TopicPartition, PidAndEpoch] = {}
        self._current = PidAndEpoch(-1, -1)
        # aiokafka's sender waits for an id of its own before the first batch; every batch here has its
        # partition's.
        self._pid_and_epoch = PidAndEpoch(0, 0)

    def assign(self, tp: TopicPartition, held: Fence) -> None:
        self._fences[tp] = PidAndEpoch(held.producer_id, held.epoch)
        self._sequence_numbers[tp] = 0

    def holds(self, tp: TopicPartition) -> bool:
        return tp in self._fences

    def revoke(self, tp: TopicPartition) -> None:
        self._fences.pop(tp, None)
        self._sequence_numbers.pop(tp, None)

    def sequence_number(self, tp: TopicPartition) -> int:
        # A batch that outlived its fence goes out under an id that no broker knows, and fails.
        self._current = self._fences.get(tp, PidAndEpoch(-1, -1))
        number: int = super().sequence_number(tp)
        return number

    @property
    def producer_id(self) -> int:
        return int(self._current.pid)

    @property
    def producer_epoch(self) -> int:
        return int(self._current.epoch)


class Delivery(NamedTuple):
    """Records ``begin`` to ``end`` (not included) of a call share this future."""

    future: asyncio.Future[Any]
    begin: int
    end: int


class PartitionProducer(Protocol):
    """By which an owned partition publishes: the worker's :class:`FencedProducer`, or transactions of the
    partition's own.
    """

    async def fence(self, transactional_id: str, partitions: Sequence[TopicPartition]) -> Fence:
        """Take ``partitions`` over from whoever held them."""

    def send(
        self,
        tp: TopicPartition,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Headers] | None = None,
    ) -> list[Delivery]:
        """Hand records over, in order and without an await."""


class FencedProducer:
    """Publishes whole batches, in order, to partitions that were fenced first, and single records to any
    other.

    What goes to a partition without a fence (dead-letter, forwarded records) may repeat after a crash, so a
    second, plain producer carries it: there a failed batch does not break the sequence of those behind it.

    Args:
        options: aiokafka client options (servers, security).
        max_batch_bytes: a fused batch is closed at this size.
        max_request_bytes: no single record may be larger.
        max_bytes_in_flight: with so much unacknowledged, ``room`` waits.
    """

    def __init__(
        self,
        options: dict[str, Any],
        *,
        max_batch_bytes: int,
        compression: str | None = None,
        max_request_bytes: int = 8 << 20,
        max_bytes_in_flight: int = 32 << 20,
    ) -> None:
        shared: dict[str, Any] = {
            **options,
            "acks": "all",
            "linger_ms": 0,
            "max_batch_size": max_batch_bytes,
            "max_request_size": max_request_bytes,
            "compression_type": compression,
        }
        self._producer = AIOKafkaProducer(**shared, enable_idempotence=True)
        self._plain = AIOKafkaProducer(**shared)
        self._sequences = _FencedSequences()
        self._producer._txn_manager = self._sequences
        self._producer._sender._txn_manager = self._sequences
        self._producer._message_accumulator._txn_manager = self._sequences
        for producer in (self._producer, self._plain):
            producer._sender.client = JoiningClient(producer._sender.client)
        self._unacknowledged: dict[TopicPartition, set[asyncio.Future[Any]]] = {}
        self._sizes: dict[asyncio.Future[Any], int] = {}
        self._topics: set[str] = set()
        self.bytes_in_flight = 0
        self._room = asyncio.Event()
        self._room.set()
        self.max_bytes_in_flight = max_bytes_in_flight

    async def start(self, topics: Sequence[str]) -> None:
        """Connect and learn where the partitions of ``topics`` live."""
        await self._producer.start()
        await self._plain.start()
        for topic in topics:
            await self._producer.client._wait_on_metadata(topic)
            await self._plain.client._wait_on_metadata(topic)
        self._topics.update(topics)

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Send what is queued, then disconnect; what cannot be sent within ``timeout_s`` is given up.

        With idempotence aiokafka tries for ever, and a worker must stop while Kafka is away.
        """
        for producer in (self._producer, self._plain):
            try:
                await asyncio.wait_for(producer.flush(), timeout_s)
            except TimeoutError:
                producer._message_accumulator.fail_all(ProducerClosed())
            await producer.stop()

    async def fence(self, transactional_id: str, partitions: Sequence[TopicPartition]) -> Fence:
        """Take ``partitions`` over from whoever held them, ourselves before included.

        What still waits to be sent to them is given up: under the new fence it would be written after its
        new owner has read back what stands there.
        """
        held = await fence(self._producer.client, transactional_id, partitions)
        for tp in partitions:
            for batch in self._producer._message_accumulator._batches.pop(tp, ()):
                if not batch.future.done():
                    batch.future.set_exception(ProducerFenced())
            self._sequences.assign(tp, held)
        return held

    def release(self, partitions: Sequence[TopicPartition]) -> None:
        """Give ``partitions`` up; nothing may be queued for them any more."""
        for tp in partitions:
            self._sequences.revoke(tp)

    def send(
        self,
        tp: TopicPartition,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Headers] | None = None,
    ) -> list[Delivery]:
        """Hand R records over, in order and without an await.

        They join the batch that still waits for the sender, if there is one: otherwise small batches would
        queue up behind each other, one round trip each.

        Returns:
            A Delivery per batch; its future resolves when all in-sync replicas have the batch.

        Raises:
            ProducerClosed, KafkaError: aiokafka's sender has ended; nothing can be sent any more.
        """
        carrier = self._producer if self._sequences.holds(tp) else self._plain
        if tp.topic not in self._topics:
            # The sender asks for the leaders of the topics it knows of.
            self._topics.add(tp.topic)
            carrier.client.add_topic(tp.topic)
        accumulator = carrier._message_accumulator
        if accumulator._exception is not None:
            raise accumulator._exception
        batch = self._waiting_batch(accumulator, tp)
        deliveries = []
        begin = 0
        while begin < len(keys):
            size = batch._builder.size()
            end = batch._builder.extend(keys, values, headers, begin)
            self.count(batch.future, batch._builder.size() - size)
            if end > begin:
                deliveries.append(Delivery(batch.future, begin, end))
            begin = end
            if begin < len(keys):
                batch = self._new_batch(accumulator, tp)
        return deliveries

    def _waiting_batch(self, accumulator: Any, tp: TopicPartition) -> Any:
        """The last batch the sender has not taken yet; one it has taken may not grow, its sequence is set."""
        waiting = accumulator._batches.get(tp)
        if waiting and waiting[-1].retry_count == 0 and not waiting[-1]._builder.closed():
            return waiting[-1]
        return self._new_batch(accumulator, tp)

    def _new_batch(self, accumulator: Any, tp: TopicPartition) -> Any:
        builder = batch_builder(accumulator._batch_size, accumulator._compression_type)
        batch = accumulator._append_batch(builder, tp)
        self.follow(tp, batch.future)
        return batch

    def follow(self, tp: TopicPartition, acknowledged: asyncio.Future[Any]) -> None:
        """What is counted for this future is unacknowledged until it is done."""
        futures = self._unacknowledged.setdefault(tp, set())
        futures.add(acknowledged)
        self._sizes[acknowledged] = 0

        def done(future: asyncio.Future[Any]) -> None:
            futures.discard(future)
            self.bytes_in_flight -= self._sizes.pop(future)
            if self.bytes_in_flight < self.max_bytes_in_flight:
                self._room.set()

        acknowledged.add_done_callback(done)

    def count(self, acknowledged: asyncio.Future[Any], size: int) -> None:
        """``size`` bytes more are handed over for a future that is followed."""
        self._sizes[acknowledged] += size
        self.bytes_in_flight += size
        if self.bytes_in_flight >= self.max_bytes_in_flight:
            self._room.clear()

    @property
    def full(self) -> bool:
        """Is so much unacknowledged that ``room`` waits?"""
        return not self._room.is_set()

    async def room(self) -> None:
        """Wait until less than ``max_bytes_in_flight`` is unacknowledged."""
        await self._room.wait()

    async def flush(self, partitions: Sequence[TopicPartition] | None = None) -> None:
        """Wait until everything handed over for ``partitions`` (or for all) is acknowledged or has failed."""
        wanted = (
            self._unacknowledged
            if partitions is None
            else {tp: self._unacknowledged.get(tp, set()) for tp in partitions}
        )
        waiting = [future for futures in wanted.values() for future in futures]
        if waiting:
            await asyncio.wait(waiting)
