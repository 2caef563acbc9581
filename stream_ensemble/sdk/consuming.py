"""Reading one topic of an ensemble: how a consumer is opened, where it starts, how it commits.

A partition of which the group has no offset gets one committed when it is assigned, so that what is appended
before the first record was processed is not lost to a restart.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError

from stream_ensemble import config
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.chunks import Chunk, UnreadableBatch
from stream_ensemble.kafka.fetching import adopt
from stream_ensemble.kafka.offset_errors import heed_offset_errors
from stream_ensemble.sdk.clients import close_consumer, open_consumer
from stream_ensemble.sdk.errors import answered_in_time
from stream_ensemble.sdk.topics import require_topic

log = logging.getLogger(__name__)

_POLL_MS = 200


class Start(Enum):
    """Where to begin in a partition the group has no offset of."""

    BEGINNING = "beginning"
    END = "end"
    #: Skips what is too old for its answer to be more than late.
    LATENESS_HORIZON = "lateness horizon"


class Record(NamedTuple):
    """A record as it was read, appended at ``timestamp`` (ms). With ``error`` it stands for all records of a
    batch that cannot be read, which has been logged.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    error: RecordError | None


class TopicReader:
    """Reads one topic, read_committed: in ``group``, or every partition on its own account without one.

    Args:
        kafka, topic, ensemble: which topic where; the ensemble knows its partitions and lateness horizon.
        group: a consumer group id.
        start: where to begin without a committed offset.
        on_revoked: awaited before the group changes; until it returns the partitions are ours to commit.
        on_assigned: awaited when it has changed.
    """

    def __init__(
        self,
        kafka: config.Kafka,
        topic: str,
        ensemble: config.Ensemble,
        *,
        group: str | None,
        start: Start,
        on_revoked: Callable[[], Awaitable[None]],
        on_assigned: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.topic = topic
        self.group = group
        self._kafka = kafka
        self._ensemble = ensemble
        self._start = start
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned
        self._consumer: AIOKafkaConsumer | None = None
        #: Fetched and not handed out.
        self._fetched: deque[Record] = deque()

    async def start(self) -> None:
        """Connects, joins the group and settles where to begin.

        Raises:
            ServerUnavailableError: Kafka does not answer.
            TopologyError: the topic is missing or has another number of partitions than the settings say.
        """
        await require_topic(self._kafka, self.topic, self._ensemble.partitions)
        consumer = self._consumer = open_consumer(self._kafka, self.group)
        try:
            async with answered_in_time(self._kafka, self.topic, group_changes=self.group is not None):
                await self._begin(consumer)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Leaves the group and disconnects; commits nothing."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close_consumer(consumer)

    async def poll(self, max_records: int) -> list[Record]:
        """The next records, at most ``max_records``; none when nothing came for a moment.

        Raises:
            ServerUnavailableError, RefusedError: the group or the topic cannot be read.
        """
        consumer, fetched = self._opened(), self._fetched
        if fetched:
            # A member that asks for nothing for minutes is taken out of its group.
            with consumer._subscription.fetch_context():
                pass
        else:
            async with answered_in_time(self._kafka, self.topic):
                polled = await consumer.getmany(timeout_ms=_POLL_MS)
            fetched.extend(
                record for chunks in polled.values() for chunk in chunks for record in _records(chunk)
            )
        return [fetched.popleft() for _ in range(min(max_records, len(fetched)))]

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Commits by partition the offset to go on from, of the partitions still ours.

        A commit refused because the group has changed is no error: the new owner reads the records again.
        """
        consumer = self._opened()
        named = {TopicPartition(self.topic, partition): offset for partition, offset in offsets.items()}
        own = {tp: offset for tp, offset in named.items() if tp in consumer.assignment()}
        if self.group is None or not own:
            return
        async with answered_in_time(self._kafka, self.topic):
            try:
                await consumer.commit(own)
            except (CommitFailedError, IllegalStateError) as error:
                log.info(
                    "group %s changed before a commit, records will be read again: %s", self.group, error
                )

    async def _begin(self, consumer: AIOKafkaConsumer) -> None:
        if self.group is None:
            tps = [TopicPartition(self.topic, partition) for partition in range(self._ensemble.partitions)]
            consumer.assign(tps)
            await consumer.start()
            adopt(consumer)
            for tp, offset in (await self._first_offsets(consumer, tps)).items():
                consumer.seek(tp, offset)
            return
        listener = _Rebalance(self._revoked, self._assigned)
        consumer.subscribe([self.topic], listener=listener)
        await consumer.start()
        adopt(consumer)
        await listener.settled.wait()

    async def _revoked(self) -> None:
        # Whoever gets these partitions reads on where the group has committed, we too.
        self._fetched.clear()
        await self._on_revoked()

    async def _assigned(self, assigned: set[TopicPartition]) -> None:
        try:
            await self._settle(assigned)
        finally:
            if self._on_assigned is not None:
                await self._on_assigned()

    async def _settle(self, assigned: Iterable[TopicPartition]) -> None:
        """Gives every newly assigned partition without a committed offset one."""
        consumer = self._opened()
        heed_offset_errors(consumer)
        new = [tp for tp in assigned if await consumer.committed(tp) is None]
        if new:
            first = await self._first_offsets(consumer, new)
            for tp, offset in first.items():
                consumer.seek(tp, offset)
            await consumer.commit(first)

    async def _first_offsets(
        self, consumer: AIOKafkaConsumer, tps: list[TopicPartition]
    ) -> dict[TopicPartition, int]:
        if self._start is Start.BEGINNING:
            found: dict[TopicPartition, int] = await consumer.beginning_offsets(tps)
            return found
        ends: dict[TopicPartition, int] = await consumer.end_offsets(tps)
        if self._start is Start.END:
            return ends
        # A worker's clock only chooses how much old work a new member takes on; no answer depends on it.
        oldest = round((time.time() - self._ensemble.lateness_horizon_s) * 1000)
        at = await consumer.offsets_for_times(dict.fromkeys(tps, oldest))
        return {tp: at[tp].offset if at[tp] else ends[tp] for tp in tps}

    def _opened(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError(f"the reader of {self.topic} is not open; use it inside `async with`")
        return self._consumer


def _records(chunk: Chunk) -> Iterator[Record]:
    for records, appended in chunk.runs():
        for record in records:
            yield Record(
                chunk.tp.topic,
                chunk.tp.partition,
                record.offset,
                record.timestamp if appended is None else appended,
                record.key,
                record.value,
                tuple(record.headers),
                record.error if type(record) is UnreadableBatch else None,
            )


class _Rebalance(ConsumerRebalanceListener):
    def __init__(
        self,
        on_revoked: Callable[[], Awaitable[None]],
        on_assigned: Callable[[set[TopicPartition]], Awaitable[None]],
    ) -> None:
        self.settled = asyncio.Event()
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._on_revoked()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        try:
            await self._on_assigned(assigned)
        finally:
            self.settled.set()
