"""aiokafka's fetcher, made to hand over whole record batches and to keep what its answers prove.

Leans on aiokafka 0.14's private ``Fetcher``; ``tests/contract/test_private_api.py`` fails when it moves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka_errors
from aiokafka.client import ConnectionGroup
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, FetchResult, PartitionRecords
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

from stream_ensemble.kafka.chunks import Chunk
from stream_ensemble.kafka.end_proofs import EndProofs
from stream_ensemble.kafka.frames import read_into_place
from stream_ensemble.kafka.raw_batches import is_intact, next_begin

log = logging.getLogger(__name__)

#: A broker is asked for so many bytes of a partition at least, though then not all fit into one answer.
_LEAST_BYTES = 64 << 10

#: So often (s) it is said that a partition may not be read.
_COMPLAINT_S = 30.0


def _is_news(record: logging.LogRecord) -> bool:
    return record.msg != "Not authorized to read from topic %s."


# aiokafka would say it at each fetch, some ten times a second.
logging.getLogger("aiokafka.consumer.fetcher").addFilter(_is_news)


class _ObservedClient:
    """aiokafka's client with an eye on fetches: when each was sent, and what it says of the end of a
    partition.

    Args:
        proofs: told of each end that is found.
        pause_s: least time between two fetches from one broker.
    """

    def __init__(self, client: Any, proofs: EndProofs | None, pause_s: float = 0.0) -> None:
        self._client = client
        self._pause_s = pause_s
        self._fetched_at: dict[int, float] = {}
        self.proofs = proofs
        self.failing_since: dict[TopicPartition, float] = {}
        self.raw: dict[TopicPartition, bytes] = {}
        #: Append time (ms) up to which a partition was handed over.
        self.reached: dict[TopicPartition, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: Any, **kwargs: Any) -> Any:
        if not isinstance(request, FetchRequest):
            return await self._client.send(node_id, request, **kwargs)
        await self._pause(node_id)
        self._in_step(request)
        sent = self._fetched_at[node_id] = time.monotonic()
        asked = {
            TopicPartition(topic, partition): offset
            for topic, partitions in request.topics
            for partition, offset, _ in partitions
        }
        try:
            response = await self._client.send(node_id, request, **kwargs)
        except kafka_errors.KafkaError:
            for tp in asked:
                self.failing_since.setdefault(tp, sent)
            raise
        connection = self._client._conns.get((node_id, kwargs.get("group", ConnectionGroup.DEFAULT)))
        if connection is not None:
            # From its second answer on.
            read_into_place(connection)
        ends = {}
        proofs = self.proofs
        for topic, partitions in response.topics:
            for partition, error_code, highwater, *rest in partitions:
                tp = TopicPartition(topic, partition)
                if error_code:
                    self.failing_since.setdefault(tp, sent)
                    continue
                self.failing_since.pop(tp, None)
                self.raw[tp] = rest[-1]
                stable_end = rest[0] if len(rest) > 1 and rest[0] >= 0 else highwater
                if proofs is None:
                    continue
                if rest[-1]:
                    proofs.read(tp)
                elif asked.get(tp) == stable_end:
                    ends[tp] = stable_end
        if proofs is not None and ends:
            proofs.found(node_id, sent, ends)
        return response

    async def _pause(self, node_id: int) -> None:
        """Let records gather: while they are appended all the time a broker answers at once, with few."""
        left = self._fetched_at.get(node_id, float("-inf")) + self._pause_s - time.monotonic()
        if left > 0:
            await asyncio.sleep(left)

    def _in_step(self, request: FetchRequest) -> None:
        """Ask for what was appended first, first, and for so little of each that all fit into the answer.

        A broker fills its answer in the order of the request. In aiokafka's, a random one, some members
        would run ahead of others while a backlog is read, and their requests would lie open meanwhile.
        """
        asked = [(topic, *part) for topic, partitions in request._topics for part in partitions]
        most = max(_LEAST_BYTES, request._max_bytes // max(len(asked), 1))
        asked.sort(key=lambda part: self.reached.get(TopicPartition(part[0], part[1]), -1))
        request._topics = [
            (topic, [(partition, at, min(limit, most))]) for topic, partition, at, limit in asked
        ]


class ChunkFetcher(Fetcher):
    """A Fetcher whose :meth:`fetched_records` answers ``{tp: [Chunk]}``.

    Made from a running one by :func:`adopt`.
    """

    _client: Any
    #: How often reading of a partition was started; written while the partition is paused.
    starts: dict[TopicPartition, int]
    #: When it was last said that a partition may not be read.
    complained: dict[TopicPartition, float]

    @property
    def proofs(self) -> EndProofs:
        """Where the partitions end."""
        proofs: EndProofs = self._client.proofs
        return proofs

    def failing_since(self) -> Mapping[TopicPartition, float]:
        """Monotonic time since when errors hinder the reading of a partition, or the proof of its end."""
        failing: dict[TopicPartition, float] = self._client.failing_since
        unproven = self.proofs.unproven_since
        if not unproven:
            return failing
        both = unproven | failing
        return {tp: min(since, unproven.get(tp, since)) for tp, since in both.items()}

    def not_asked(self, tps: Iterable[TopicPartition]) -> None:
        """These are not fetched for a while: nothing can be said of them."""
        for tp in tps:
            self._client.failing_since.pop(tp, None)
            self.proofs.unproven_since.pop(tp, None)

    async def fetched_records(
        self, partitions: Any, timeout: float = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[Chunk]]:
        deadline = time.monotonic() + timeout
        while True:
            if self._subscriptions.reassignment_in_progress:
                await self._subscriptions.wait_for_assignment()
            drained = self._drain(partitions)
            if drained:
                return drained
            left = deadline - time.monotonic()
            if left <= 0:
                return {}
            waiter = self._create_fetch_waiter()
            done, _ = await asyncio.wait([waiter], timeout=left)
            if not done:
                waiter.cancel()
                return {}
            if waiter.done():
                waiter.result()
            if self._closed:
                raise kafka_errors.ConsumerStoppedError()

    def _drain(self, partitions: Any) -> dict[TopicPartition, list[Chunk]]:
        drained: dict[TopicPartition, list[Chunk]] = {}
        for tp in list(self._records):
            if partitions and tp not in partitions:
                if not self._subscriptions.is_assigned(tp):
                    del self._records[tp]
                continue
            result = self._records[tp]
            if type(result) is not FetchResult:
                del self._records[tp]
                self._notify(self._wait_consume_future)
                if drained:
                    self._records[tp] = result
                    return drained
                self._raise_unless_it_may_pass(tp, result)
                continue
            chunk = _take(tp, result, self.starts.get(tp, 0), self._client.raw.pop(tp, b""))
            del self._records[tp]
            self._notify(self._wait_consume_future)
            if chunk is not None:
                drained[tp] = [chunk]
                if chunk.batches:
                    self._client.reached[tp] = chunk.batches[-1].max_timestamp
        return drained

    def _raise_unless_it_may_pass(self, tp: TopicPartition, failed: Any) -> None:
        """A right that was taken away may come back; the position stays, ``failing_since`` knows of it."""
        try:
            failed.check_raise()
        except kafka_errors.TopicAuthorizationFailedError:
            now = time.monotonic()
            if now - self.complained.get(tp, float("-inf")) > _COMPLAINT_S:
                self.complained[tp] = now
                log.error("%s partition %d may not be read: give this client's user READ on the topic", *tp)


def _take(tp: TopicPartition, result: FetchResult, start: int, raw: bytes) -> Chunk | None:
    """All whole batches of a fetch result; moves the position past them. ``raw`` is what was fetched last.

    None when the result is no longer wanted.
    """
    if not result.check_assignment(tp) or not result.has_more():
        return None
    partition_records = result._partition_records
    first = partition_records.next_fetch_offset
    size = partition_records._records.size_in_bytes()
    # A partition is fetched again only when its last result is gone, so the bytes are this one's.
    batches, raws = _batches(tp, partition_records, memoryview(raw if len(raw) == size else b""))
    result._update_position()
    next_offset = partition_records.next_fetch_offset
    result._partition_records = None
    # It and its generator know each other, and both the bytes: that would wait for a collection.
    partition_records._records_iterator = None
    return Chunk(tp, first, next_offset, batches, start=start, size=size, raws=raws)


def _batches(
    tp: TopicPartition, source: PartitionRecords, raw: memoryview
) -> tuple[list[Any], list[memoryview] | None]:
    """The data batches of a fetch, and the bytes of each where ``raw`` has them; as aiokafka's
    ``PartitionRecords._unpack_records`` but not record by record.
    """
    found = []
    raws = []
    begin = end = 0
    records = source._records
    while records.has_next():
        batch = records.next_batch()
        begin, end = end, next_begin(raw, end) if raw else 0
        if source._check_crcs and not _is_intact(batch, raw[begin:end]):
            # Another replica's copy may be whole, so nothing is given up here.
            raise kafka_errors.CorruptRecordException(
                f"{tp.topic} partition {tp.partition}: the batch at offset {batch.base_offset} does not fit "
                "its checksum; let a replica lead whose copy is whole, and look at the leader's disk"
            )
        aborted = False
        if source._isolation_level == READ_COMMITTED and batch.producer_id is not None:
            source._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch:
                if source._contains_abort_marker(batch):
                    source._aborted_producers.discard(batch.producer_id)
            else:
                aborted = batch.is_transactional and batch.producer_id in source._aborted_producers
        if not batch.is_control_batch and not aborted:
            found.append(batch)
            raws.append(raw[begin:end])
        source.next_fetch_offset = batch.next_offset
    return found, raws if raw else None


def _is_intact(batch: Any, raw: memoryview) -> bool:
    sound = is_intact(raw) if len(raw) else None
    return bool(batch.validate_crc()) if sound is None else sound


def adopt(consumer: AIOKafkaConsumer, proofs: EndProofs | None = None, pause_s: float = 0.0) -> ChunkFetcher:
    """Turn a started consumer's fetcher into a :class:`ChunkFetcher`; its running task goes on with the new
    methods, tells ``proofs`` of ends, and pauses so long between two fetches from one broker.
    """
    fetcher = consumer._fetcher
    fetcher._client = _ObservedClient(fetcher._client, proofs, pause_s)
    fetcher.__class__ = ChunkFetcher
    fetcher.starts = {}
    fetcher.complained = {}
    adopted: ChunkFetcher = fetcher
    return adopted
