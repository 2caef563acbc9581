"""A Faust transport that delivers whole chunks and leaves offsets to the partitions' owner.

Stock Faust makes four tasks a record; this hands an agent one Event per fetch, whose value is a list of
Chunks, one per topic partition.
Committing, acknowledging and what happens on a rebalance is the owner's business (:class:`PartitionOwner`),
because an offset may be released only when what it led to is acknowledged. Leans on faust-streaming
0.15.3's private driver; ``tests/contract/test_private_api.py`` fails when it moves.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import faust
from aiokafka.errors import TopicAuthorizationFailedError
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.structs import TopicPartition
from faust.events import Event
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from stream_ensemble.kafka.chunks import Chunk, EndEvidence
from stream_ensemble.kafka.end_proofs import READ_COMMITTED, EndProofs
from stream_ensemble.kafka.fetching import ChunkFetcher, adopt
from stream_ensemble.kafka.missing_topics import look_for_missing_topics
from stream_ensemble.kafka.offset_errors import heed_offset_errors

log = logging.getLogger(__name__)

#: How long a stop may take. With Kafka away Faust and aiokafka would wait for it for ever.
STOP_LIMIT_S = 12.0
#: Most bytes of one fetch: anything over 32 MiB glibc maps anew each time, and the kernel clears it.
_FETCH_BYTES = 24 << 20


def _end_after(seconds: float) -> threading.Timer:
    """End the process if it is still there after ``seconds``: offsets stay where they are, so nothing is
    lost."""

    def end() -> None:
        log.critical(
            "not stopped after %g s (is Kafka away?); ending now, what is not committed is read again",
            seconds,
        )
        logging.shutdown()
        os._exit(os.EX_TEMPFAIL)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer


class PartitionOwner(Protocol):
    """What the transport asks of the app that owns partitions."""

    def committable(self) -> Mapping[TP, int]:
        """Offsets that may be committed now, by topic partition."""

    def assigned(self, partitions: frozenset[TP], generation: int) -> None:
        """These partitions are ours in ``generation``; they stay paused until the owner resumes them.

        Must not block.
        """

    async def revoked(self, partitions: frozenset[TP]) -> None:
        """Close these partitions and finish what they hold; the offsets are committed right after."""

    async def drain(self) -> None:
        """The worker stops: finish what is held; the offsets are committed right after."""


class _Listener(driver.ConsumerRebalanceListener):
    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        # Paused before the first fetch goes out: the owner fences and reads back before anything is read.
        consumer = self._thread._ensure_consumer()
        consumer.pause(*[TopicPartition(tp.topic, tp.partition) for tp in assigned])
        await super().on_partitions_assigned(assigned)


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    fetcher: ChunkFetcher
    _looking: asyncio.Task[None] | None = None

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = self.app.fetch_max_wait_ms
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_bytes = _FETCH_BYTES
        consumer.commit = _committing_what_it_may(consumer.commit)
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        proofs = EndProofs(self._consumer._client, READ_COMMITTED)
        self.fetcher = adopt(self._consumer, proofs, self.app.fetch_pause_s)
        heed_offset_errors(self._consumer)
        looking = look_for_missing_topics(self._consumer._client)
        self._looking = asyncio.get_running_loop().create_task(looking, name="look for missing topics")

    async def on_thread_stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        await super().on_thread_stop()


def _committing_what_it_may(commit: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """``commit`` for which a topic that may not be read for a while is no reason to end the worker.

    The broker takes the offsets of the other topics in the same request.
    """

    async def tolerant(*args: Any) -> None:
        try:
            await commit(*args)
        except TopicAuthorizationFailedError as error:
            log.warning("offsets are not committed for topics that may not be read: %s", error)

    return tolerant


class ChunkConsumer(driver.Consumer):
    """Delivers lists of chunks; asks :class:`PartitionOwner` for offsets."""

    RebalanceListener = _Listener
    _thread: _ConsumerThread

    @property
    def owner(self) -> PartitionOwner:
        """The app's owner of partitions; it is there before the consumer starts."""
        owner: PartitionOwner = self.app.owner
        return owner

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # --- delivery ---------------------------------------------------------------------------------

    async def _drain_messages(self, fetcher: Any) -> None:
        stopping = (self._stopped.is_set, fetcher._stopped.is_set)
        try:
            while not any(stop() for stop in stopping):
                records, _ = await self._wait_next_records(1.0)
                generation = self.app.consumer_generation_id
                if not records:
                    await asyncio.sleep(0)
                    continue
                for channel, chunks in self._by_channel(records):
                    if not await self._deliver(channel, chunks, generation):
                        break
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    def _by_channel(self, records: Mapping[TopicPartition, list[Chunk]]) -> Iterable[tuple[Any, list[Chunk]]]:
        """What one fetch brought, as one list per agent: what follows from it can go out together."""
        groups: dict[int, tuple[Any, list[Chunk]]] = {}
        for tp, chunks in records.items():
            for channel in self.app.topics._tp_index[TP(tp.topic, tp.partition)]:
                groups.setdefault(id(channel), (channel, []))[1].extend(chunks)
        return groups.values()

    async def _deliver(self, channel: Any, chunks: list[Chunk], generation: int) -> bool:
        """Queue chunks for an agent; False when a rebalance made them worthless."""
        if not self.flow_active or self.app.consumer_generation_id != generation:
            return False
        tp = TP(chunks[0].tp.topic, chunks[0].tp.partition)
        offset = chunks[0].next_offset - 1
        message = ConsumerMessage(
            tp.topic,
            tp.partition,
            offset,
            0.0,
            0,
            None,
            None,
            chunks,
            None,
            0,
            0,
            tp,
            generation_id=generation,
        )
        try:
            await channel.queue.put(Event(self.app, None, chunks, None, message))
        except asyncio.CancelledError:
            # A rebalance clears the stream queues, which cancels a put that waits for room.
            if self.app.should_stop or not self._rebalanced_since(generation):
                raise
            return False
        return True

    def _rebalanced_since(self, generation: int) -> bool:
        return bool(self.app.rebalancing) or self.app.consumer_generation_id != generation

    def ack(self, message: Any) -> bool:
        """Streams acknowledge events; here the owner releases offsets instead."""
        return True

    # --- offsets ----------------------------------------------------------------------------------

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        self._to_commit = dict(self.owner.committable()) if self.app.owner is not None else {}
        return iter([tp for tp in self._to_commit if topics is None or tp in topics or tp.topic in topics])

    def _new_offset(self, tp: TP) -> int | None:
        return self._to_commit.get(tp)

    def _should_commit(self, tp: TP, offset: int) -> bool:
        committed = self._committed_offset[tp]
        return committed is None or offset > committed

    async def perform_seek(self) -> None:
        """Faust would seek to the committed offsets here; the owner seeks each partition when it is
        prepared."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's livelock detector looks at acknowledgements per event, which there are none of."""

    # --- rebalance --------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        # super() drops the offset maps, so finish and commit first.
        await self.owner.revoked(frozenset(revoked))
        await self.commit()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        await super().on_partitions_assigned(assigned, generation_id)
        self.owner.assigned(frozenset(assigned), generation_id)

    async def on_stop(self) -> None:
        if self.app.owner is not None:
            await self.owner.drain()
        await super().on_stop()

    # --- what the owner uses ----------------------------------------------------------------------

    async def heartbeat_accepted(self, generation: int) -> bool:
        """Ask the group coordinator whether we are still a member in ``generation``."""
        return bool(await self._in_thread(self._heartbeat, generation))

    async def _heartbeat(self, generation: int) -> bool:
        coordinator = self._thread._ensure_consumer()._coordinator
        if coordinator.generation != generation:
            return False
        request = HeartbeatRequest(coordinator.group_id, generation, coordinator.member_id)
        answer = await coordinator._send_req(request)
        return bool(answer.error_code == 0)

    async def committed_offsets(self, partitions: Iterable[TP]) -> dict[TP, int | None]:
        """What the group has committed for each partition; None where nothing is."""

        async def ask() -> dict[TP, int | None]:
            consumer = self._thread._ensure_consumer()
            asked = list(partitions)
            found = await asyncio.gather(
                *(consumer.committed(TopicPartition(tp.topic, tp.partition)) for tp in asked)
            )
            return dict(zip(asked, found, strict=True))

        answer: dict[TP, int | None] = await self._in_thread(ask)
        return answer

    async def commit_positions(self, positions: Mapping[TP, int]) -> None:
        """Commit these offsets now, as the group's first ones.

        Raises:
            KafkaError: the coordinator did not take them; CommitFailedError: we are no longer a member.
        """

        async def commit() -> None:
            consumer = self._thread._ensure_consumer()
            await consumer.commit(
                {TopicPartition(tp.topic, tp.partition): at for tp, at in positions.items()}
            )

        await self._in_thread(commit)

    def is_current(self, chunk: Chunk) -> bool:
        """Was this chunk read since reading of its partition was last started?

        One from before may still wait in a stream's queue; it would make a gap.
        """
        return chunk.start == self._thread.fetcher.starts.get(chunk.tp, 0)

    async def start_at(self, positions: Mapping[TP, int]) -> None:
        """Seek each partition, which must be paused, and let it flow."""

        async def seek() -> None:
            consumer, starts = self._thread._ensure_consumer(), self._thread.fetcher.starts
            for name, offset in positions.items():
                tp = TopicPartition(name.topic, name.partition)
                starts[tp] = starts.get(tp, 0) + 1
                consumer.seek(tp, offset)
                consumer.resume(tp)

        await self._in_thread(seek)

    async def hold(self, partitions: Iterable[TP]) -> None:
        """Stop fetching these partitions."""
        held = list(partitions)
        await self._in_thread(self._call, "pause", held)
        self._thread.fetcher.not_asked(TopicPartition(tp.topic, tp.partition) for tp in held)

    async def unhold(self, partitions: Iterable[TP]) -> None:
        """Fetch these partitions again from where they were held."""
        await self._in_thread(self._call, "resume", list(partitions))

    async def _call(self, name: str, partitions: list[TP]) -> None:
        consumer = self._thread._ensure_consumer()
        assigned = consumer.assignment()
        ours = [TopicPartition(tp.topic, tp.partition) for tp in partitions]
        getattr(consumer, name)(*[tp for tp in ours if tp in assigned])

    def end_evidence(self) -> Mapping[Any, EndEvidence]:
        """Newest proof per topic and partition that it was read to its end."""
        return self._thread.fetcher.proofs.ends

    def hurry_proofs(self) -> None:
        """A decision waits for proofs of ends: get them as soon as may be."""
        self._thread.fetcher.proofs.hurry()

    def failing_since(self) -> Mapping[Any, float]:
        """Monotonic time since when errors hinder the reading of a partition, or the proof of its end."""
        return self._thread.fetcher.failing_since()

    async def _in_thread(self, call: Callable[..., Any], *args: Any) -> Any:
        return await self._thread.call_thread(call, *args)


class ChunkTransport(driver.Transport):
    """The transport to return from ``App._new_transport``."""

    Consumer = ChunkConsumer


class ChunkApp(faust.App):
    """A Faust app over :class:`ChunkTransport`.

    Attributes:
        owner: set it in ``at_start``, before the consumer starts.
        fetch_max_wait_ms: how long a broker may hold an empty fetch.
        fetch_pause_s: least time between two fetches from one broker.
        at_start: awaited in order when the worker starts, before it joins the group.
        at_end: awaited in order after the last commit.
    """

    owner: PartitionOwner | None = None
    fetch_max_wait_ms: int = 50
    fetch_pause_s: float = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.at_start: list[Callable[[], Awaitable[None]]] = []
        self.at_end: list[Callable[[], Awaitable[None]]] = []

    def _new_transport(self) -> ChunkTransport:
        return ChunkTransport(self.conf.broker_consumer, self)

    async def stop(self) -> None:
        """Stop in order, but for at most ``STOP_LIMIT_S``."""
        timer = _end_after(STOP_LIMIT_S)
        try:
            await super().stop()
        finally:
            timer.cancel()

    async def on_start(self) -> None:
        await super().on_start()
        for begin in self.at_start:
            await begin()

    async def on_shutdown(self) -> None:
        await super().on_shutdown()
        for end in self.at_end:
            await end()
