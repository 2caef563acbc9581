"""The learner's way out: everything one flush led to, and the offsets it came from, in one Kafka transaction.

One transactional id per partition: whoever starts next with it fences the one before, whose open
transaction is aborted and of whom nothing more is ever visible.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, InvalidProducerEpoch, KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from stream_ensemble.errors import FencedError, ServerUnavailableError
from stream_ensemble.kafka.batch_builder import batch_builder
from stream_ensemble.kafka.frames import JoiningClient

log = logging.getLogger(__name__)
_FENCED = (ProducerFenced, InvalidProducerEpoch)

#: The broker looks for expired transactions every 10 s; a flush takes far less.
_TRANSACTION_TIMEOUT_MS = 20_000
#: Longer than the broker waits: after it, whatever was begun is aborted.
_COMMIT_S = 30.0
_STOP_S = 5.0
_PLACE = itemgetter(0)


class Outgoing(NamedTuple):
    """One record to be written. ``value`` None is a tombstone."""

    tp: TopicPartition
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class TransactionalOutput:
    """A transactional producer with one call: commit all of this, or nothing.

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

    async def start(self) -> None:
        """Fence whoever used this transactional id before.

        Raises:
            ServerUnavailableError: Kafka does not answer.
        """
        try:
            await self._producer.start()
        except KafkaError as error:
            await self.stop()
            raise ServerUnavailableError(f"Kafka: {error!r}") from error

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
        try:
            async with asyncio.timeout(_COMMIT_S):
                await self._producer.begin_transaction()
                # A failed batch does not fail the transaction, so each is waited for before the offsets go
                # in.
                written = await self._write(records)
                stamped = {tp: OffsetAndMetadata(offset, metadata) for tp, offset in offsets.items()}
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

    async def _write(self, records: Sequence[Outgoing]) -> dict[TopicPartition, int]:
        sent = []
        for tp, group in _by_place(records):
            for batch in self._batches(group):
                future = await self._producer.send_batch(batch, tp.topic, partition=tp.partition)
                # Looked at below; unless another send raises first, and then nobody else would.
                future.add_done_callback(_look_at)
                sent.append((tp, future, batch.record_count()))
        written: dict[TopicPartition, int] = {}
        done = await asyncio.gather(*(future for _, future, _ in sent), return_exceptions=True)
        for (tp, _, count), result in zip(sent, done, strict=True):
            if isinstance(result, BaseException):
                raise result
            written[tp] = max(written.get(tp, 0), result.offset + count)
        return written

    def _batches(self, records: Sequence[Outgoing]) -> Iterator[Any]:
        """Batches of one topic partition in the order of its records."""
        _, keys, values, headers = map(list, zip(*records, strict=True))
        carried = [list(each) for each in headers] if any(headers) else None
        accumulator, taken = self._producer._message_accumulator, 0
        while taken < len(records):
            batch = batch_builder(accumulator._batch_size, accumulator._compression_type, transactional=True)
            taken = batch.extend(keys, values, carried, taken)
            yield batch


def _by_place(records: Sequence[Outgoing]) -> Iterable[tuple[TopicPartition, list[Outgoing]]]:
    """The records of each topic partition, in their order."""
    found: dict[TopicPartition, list[Outgoing]] = {}
    for tp, group in groupby(records, key=_PLACE):
        found.setdefault(tp, []).extend(group)
    return sorted(found.items(), key=_PLACE)


def _look_at(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
