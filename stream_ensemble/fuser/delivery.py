"""How the partitions of a fuse worker publish, as the setting ``kafka.delivery`` says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka.structs import TopicPartition

from stream_ensemble.config import Settings
from stream_ensemble.fuser.transactions import PartitionTransactions
from stream_ensemble.kafka.fenced_producer import FencedProducer, PartitionProducer
from stream_ensemble.kafka.transactional_output import TransactionalOutput

Place = tuple[str, int]


class DeliveryMode:
    """The worker's producer for all partitions, or transactions for each.

    Args:
        producer: the worker's.
        options: aiokafka client options.
        group_id: the consumer group whose offsets are committed in transactions.

    Attributes:
        transacted: are input offsets committed in transactions, and nowhere else?
    """

    def __init__(
        self, settings: Settings, producer: FencedProducer, options: Mapping[str, Any], group_id: str
    ) -> None:
        self.transacted = settings.kafka.delivery == "transactions"
        self._kafka = settings.kafka
        self._producer = producer
        self._options = options
        self._group_id = group_id
        self._of: dict[Place, PartitionTransactions] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def producer_of(self, place: Place, transactional_id: str) -> PartitionProducer:
        """By which ``place``, which is taken over, publishes; what it had before is given up."""
        self.abandon(place)
        if not self.transacted:
            return self._producer
        kafka = self._kafka
        output = TransactionalOutput(
            self._options,
            transactional_id=transactional_id,
            group_id=self._group_id,
            max_batch_bytes=kafka.max_batch_bytes,
            compression=None if kafka.compression == "none" else kafka.compression,
        )
        self._of[place] = PartitionTransactions(
            self._producer, output, kafka.transaction_interval_ms / 1000, kafka.commit_interval_s
        )
        return self._of[place]

    def begin(
        self,
        place: Place,
        offsets: Callable[[], Mapping[TopicPartition, int]],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """``place`` was taken over; arguments as ``PartitionTransactions.begin``'s."""
        if place in self._of:
            self._of[place].begin(offsets, on_failure)

    async def room(self) -> None:
        """Wait until less than ``kafka.max_bytes_in_flight`` is unacknowledged. For that, what is gathered is
        committed before its interval ends.
        """
        if self._producer.full:
            for transactions in self._of.values():
                transactions.hurry()
        await self._producer.room()

    def abandon(self, place: Place) -> None:
        """Whatever ``place`` has not committed is given up; its next owner reads it again."""
        transactions = self._of.pop(place, None)
        if transactions is not None:
            task = asyncio.get_running_loop().create_task(transactions.abandon())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def finish(self) -> None:
        """Wait until everything handed over is acknowledged, and in transactions committed too."""
        try:
            for transactions in self._of.values():
                transactions.hurry()
            await self._producer.flush()
            await asyncio.gather(*(transactions.finish() for transactions in self._of.values()))
            self._of.clear()
            if self._leaving:
                await asyncio.wait(self._leaving)
        finally:
            for place in list(self._of):
                self.abandon(place)
