"""Records and the offsets they came from, in one Kafka transaction: all or nothing, visible together.

One transactional id per partition: whoever starts next with it fences the one before, whose open
transaction is aborted and of whom nothing more is ever visible. Leans on aiokafka 0.14's private accumulator;
``tests/contract/test_private_api.py`` fails when it moves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, InvalidProducerEpoch, KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from stream_ensemble.errors import FencedError, ServerUnavailableError
from stream_ensemble.kafka.batch_builder import batch_builder
from stream_ensemble.kafka.fence import Fence
from stream_ensemble.kafka.frames import JoiningClient

log = logging.getLogger(__name__)
_FENCED = (ProducerFenced, InvalidProducerEpoch)

#: The broker looks for expired transactions every 10 s; a flush takes far less.
_TRANSACTION_TIMEOUT_MS = 20_000
#: Longer than the broker waits: after it, whatever was begun is aborted.
_COMMIT_S = 30.0
_STOP_S = 5.0


class Outgoing(NamedTuple):
    """One record to be written. ``value`` None is a tombstone."""

    tp: TopicPartition
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class Batch(NamedTuple):
    """Records of one topic partition, made by :meth:`TransactionalOutput.batch`."""

    tp: TopicPartition
    builder: Any


class TransactionalOutput:
    """A transactional producer that commits all of something, or nothing.

    Args:
        options: aiokafka client options.
        transactional_id: the partition's, so that its next owner fences this one.
        group_id: the consumer group whose offsets are committed.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        *,
        transactional_id: str,
        group_id: str,
        max_batch_bytes: int,
        compression: str | None,
    ) -> None:
        self._group_id = group_id
        # aiokafka waits this long between two attempts to begin after a commit; its default would be felt.
        self._producer = AIOKafkaProducer(
            **options,
            transactional_id=transactional_id,
            transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS,
            retry_backoff_ms=10,
            max_batch_size=max_batch_bytes,
            compression_type=compression,
        )
        self._producer._sender.client = JoiningClient(self._producer._sender.client)

    async def start(self, held: Fence | None = None) -> None:
        """Fence whoever used this transactional id before; with ``held`` that is done, and it is written
        under that fence.

        Raises:
            ServerUnavailableError: Kafka does not answer.
        """
        try:
            if held is not None:
                self._producer._txn_manager.set_pid_and_epoch(held.producer_id, held.epoch)
            await self._producer.start()
        except KafkaError as error:
            await self.stop()
            raise ServerUnavailableError(f"Kafka: {error!r}") from error

    def batch(self) -> Any:
        """An empty batch, to be filled by its ``extend``."""
        accumulator = self._producer._message_accumulator
        return batch_builder(accumulator._batch_size, accumulator._compression_type, transactional=True)

    async def commit(
        self, records: Sequence[Outgoing], offsets: Mapping[TopicPartition, int], metadata: str
    ) -> dict[TopicPartition, int]:
        """Write the records and commit the offsets, all or nothing, visible together.

        Returns:
            By topic partition written to, the offset after the last record written.

        Raises:
            FencedError: another owner has taken over; nothing of this is visible.
            ServerUnavailableError: it is not known what became of it; fence again and read what stands.
        """
        batches = [
            batch
            for tp, group in groupby(sorted(records, key=_place), key=_place)
            for batch in self._batches(tp, list(group))
        ]

        async def known() -> Mapping[TopicPartition, int]:
            return offsets

        return await self.commit_batches(batches, known, metadata)

    async def commit_batches(
        self,
        batches: Sequence[Batch],
        offsets: Callable[[], Awaitable[Mapping[TopicPartition, int]]],
        metadata: str,
    ) -> dict[TopicPartition, int]:
        """As :meth:`commit`, of batches; ``offsets`` is asked once all of them are acknowledged."""
        try:
            async with asyncio.timeout(_COMMIT_S):
                await self._producer.begin_transaction()
                # A failed batch does not fail the transaction, so each is waited for before the offsets go
                # in.
                written = await self._write(batches)
                reached = await offsets()
                stamped = {tp: OffsetAndMetadata(offset, metadata) for tp, offset in reached.items()}
                if stamped:
                    await self._producer.send_offsets_to_transaction(stamped, self._group_id)
                await self._producer.commit_transaction()
        except _FENCED as error:
            self._forget_transaction()
            raise FencedError("another owner has taken this partition over") from error
        except (KafkaError, IllegalOperation, TimeoutError) as error:
            cause = self._forget_transaction()
            if isinstance(cause, _FENCED):
                # Refused between two calls: the second one only says that there is no transaction.
                raise FencedError("another owner has taken this partition over") from cause
            raise ServerUnavailableError(f"Kafka did not commit a transaction: {error!r}") from error
        return written

    async def stop(self) -> None:
        """Close the connections; an open transaction is aborted by the next owner's start."""
        try:
            async with asyncio.timeout(_STOP_S):
                await self._producer.stop()
        except (KafkaError, TimeoutError) as error:
            log.info("closing the producer of a partition: %r", error)
            # What a transaction that failed has left would be tried again for as long as Kafka is away.
            if self._producer._sender.sender_task is not None:
                self._producer._sender.sender_task.cancel()
            await self._producer.client.close()

    def _forget_transaction(self) -> BaseException | None:
        """What the transaction failed with in the background.

        aiokafka keeps it in a future, which would be logged as never looked at.
        """
        end = self._producer._txn_manager.wait_for_transaction_end()
        if end is not None and end.done() and not end.cancelled():
            error: BaseException | None = end.exception()
            return error
        return None

    async def _write(self, batches: Sequence[Batch]) -> dict[TopicPartition, int]:
        for topic in {tp.topic for tp, _ in batches}:
            await self._producer.client._wait_on_metadata(topic)
        sent = [self._send(batch) for batch in batches]
        written: dict[TopicPartition, int] = {}
        done = await asyncio.gather(*sent, return_exceptions=True)
        for (tp, builder), result in zip(batches, done, strict=True):
            if isinstance(result, BaseException):
                raise result
            written[tp] = max(written.get(tp, 0), result.offset + builder.record_count())
        return written

    def _send(self, batch: Batch) -> asyncio.Future[Any]:
        """Hand a batch over to the sender; those of one partition are written in this order."""
        accumulator = self._producer._message_accumulator
        if accumulator._exception is not None:
            raise accumulator._exception
        if not self._producer._txn_manager.is_in_transaction():
            raise IllegalOperation("the transaction has failed")
        future: asyncio.Future[Any] = accumulator._append_batch(batch.builder, batch.tp).future
        # Looked at by the caller; unless another send raises first, and then nobody else would.
        future.add_done_callback(_look_at)
        return future

    def _batches(self, tp: TopicPartition, records: list[Outgoing]) -> list[Batch]:
        """Records of one topic partition in their order."""
        keys, values = [r.key for r in records], [r.value for r in records]
        headers = [list(r.headers) for r in records]
        batches = []
        begin = 0
        while begin < len(records):
            batches.append(Batch(tp, self.batch()))
            begin = batches[-1].builder.extend(keys, values, headers, begin)
        return batches


def _look_at(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


def _place(record: Outgoing) -> TopicPartition:
    return record.tp
