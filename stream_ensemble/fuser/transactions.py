"""The delivery mode "transactions": what a partition writes, and its input offsets, in one Kafka transaction.

Answers and late records are gathered for an interval and written together. What goes to topics that somebody
here reads as input (forwarded records, trials), and dead letters, goes out at once by the plain producer, as
in the fenced mode: in an open transaction it would hide the members' own predictions behind it, and one dead
letter too large for its topic would end the transaction and all that come after it. Those records hold their
inputs' offsets until they are acknowledged, so nothing is lost; after a crash they may repeat.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka.errors import ProducerClosed
from aiokafka.structs import TopicPartition

from stream_ensemble.kafka.chunks import Headers
from stream_ensemble.kafka.fence import Fence
from stream_ensemble.kafka.fenced_producer import Delivery, FencedProducer
from stream_ensemble.kafka.transactional_output import Batch, TransactionalOutput

log = logging.getLogger(__name__)

Offsets = Mapping[TopicPartition, int]


class PartitionTransactions:
    """Implements ``kafka.fenced_producer.PartitionProducer`` for one partition, from its fence on.

    Args:
        producer: the worker's; it fences, carries what is no part of the transactions, and counts what is
            not acknowledged.
        output: with the transactional id under which the partition is fenced.
        interval_s: from the begin of a transaction to that of the next; one that takes longer is followed
            at once.
        idle_s: so often inputs that led to nothing are committed.
    """

    def __init__(
        self, producer: FencedProducer, output: TransactionalOutput, interval_s: float, idle_s: float
    ) -> None:
        self._producer = producer
        self._output = output
        self._interval_s = interval_s
        self._idle_s = idle_s
        self._inside: frozenset[TopicPartition] = frozenset()
        self._gathered: dict[TopicPartition, list[Batch]] = {}
        #: By batch, gathered or being written: resolves when all in-sync replicas have it.
        self._acknowledged: dict[int, asyncio.Future[Any]] = {}
        self._committed: Offsets = {}
        self._committed_at = 0.0
        self._wanted = asyncio.Event()
        self._finishing = False
        self._running: asyncio.Task[None] | None = None

    async def fence(self, transactional_id: str, partitions: Sequence[TopicPartition]) -> Fence:
        """Take ``partitions`` over from whoever held them in either mode, and write to them from here on."""
        held = await self._producer.fence(transactional_id, partitions)
        await self._output.start(held)
        self._inside = frozenset(partitions)
        return held

    def begin(self, offsets: Callable[[], Offsets], on_failure: Callable[[BaseException], None]) -> None:
        """Commit again and again what is gathered.

        Args:
            offsets: what may be committed, by input; everything before it has led to something acknowledged.
            on_failure: called once with what a transaction failed with; none follows.
        """
        self._running = asyncio.get_running_loop().create_task(
            self._run(offsets, on_failure), name="transactions of a partition"
        )

    def send(
        self,
        tp: TopicPartition,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Headers] | None = None,
    ) -> list[Delivery]:
        """See ``FencedProducer.send``; what belongs to the transactions waits for the next one."""
        if tp not in self._inside:
            return self._producer.send(tp, keys, values, headers)
        gathered = self._gathered.setdefault(tp, [])
        deliveries = []
        begin = 0
        while begin < len(keys):
            if not gathered or gathered[-1].builder.closed():
                gathered.append(self._new_batch(tp))
            builder = gathered[-1].builder
            acknowledged = self._acknowledged[id(builder)]
            size = builder.size()
            end = builder.extend(keys, values, headers, begin)
            self._producer.count(acknowledged, builder.size() - size)
            if end > begin:
                deliveries.append(Delivery(acknowledged, begin, end))
            begin = end
            if begin < len(keys):
                builder.close()
        return deliveries

    def _new_batch(self, tp: TopicPartition) -> Batch:
        batch = Batch(tp, self._output.batch())
        acknowledged = asyncio.get_running_loop().create_future()
        self._acknowledged[id(batch.builder)] = acknowledged
        self._producer.follow(tp, acknowledged)
        return batch

    def hurry(self) -> None:
        """Commit what is gathered now rather than at the interval's end."""
        self._wanted.set()

    async def finish(self) -> None:
        """Commit what is gathered, for the last time, and disconnect."""
        self._finishing = True
        self.hurry()
        if self._running is not None:
            await asyncio.wait([self._running])
        await self.abandon()

    async def abandon(self) -> None:
        """Give up what is not committed and disconnect; an open transaction is aborted by the next fence."""
        if self._running is not None:
            self._running.cancel()
        self._give_up(ProducerClosed())
        await self._output.stop()

    def _give_up(self, error: BaseException) -> None:
        """Nothing of what is not acknowledged ever will be."""
        left, self._acknowledged = self._acknowledged, {}
        self._gathered.clear()
        for acknowledged in left.values():
            acknowledged.set_exception(error)
            # Who waits for it is told; where nobody does any more, that is no news.
            acknowledged.exception()

    async def _run(self, offsets: Callable[[], Offsets], on_failure: Callable[[BaseException], None]) -> None:
        try:
            while True:
                began = time.monotonic()
                last = self._finishing
                self._wanted.clear()
                await self._commit(offsets, last=last)
                if last:
                    return
                await self._pause(began + self._interval_s - time.monotonic())
        except Exception as error:
            if self._finishing:
                log.warning(
                    "the last transaction of a partition failed, its inputs are read again: %r", error
                )
            self._give_up(error)
            on_failure(error)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._wanted.wait(), max(seconds, 0.0))
        except TimeoutError:
            return

    async def _commit(self, offsets: Callable[[], Offsets], *, last: bool) -> None:
        """One transaction, if there is anything for it."""
        gathered, self._gathered = self._gathered, {}
        batches = [batch for of_one in gathered.values() for batch in of_one]
        idle = not last and time.monotonic() - self._committed_at < self._idle_s
        if not batches and (idle or offsets() == self._committed):
            return
        reached: Offsets = {}

        async def acknowledged() -> Offsets:
            nonlocal reached
            for batch in batches:
                self._acknowledged.pop(id(batch.builder)).set_result(None)
            # Who was told releases the inputs in the loop's next step. What was handed over meanwhile, and is
            # no part of this transaction, holds its own.
            await asyncio.sleep(0)
            reached = offsets()
            return reached

        await self._output.commit_batches(batches, acknowledged, "")
        self._committed, self._committed_at = reached, time.monotonic()
