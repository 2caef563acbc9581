"""aiokafka's clients as the product uses them, on the simulated broker.

The product's own ``FencedProducer``, ``TransactionalOutput``, ``LogReader`` and ``fence`` run on top.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from aiokafka import errors as kafka_errors
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, InitProducerIdRequest
from aiokafka.structs import TopicPartition

from stream_ensemble.kafka.chunks import Chunk
from tests.simulation.broker import Broker
from tests.simulation.leading import Nodes
from tests.simulation.log import Refusal
from tests.simulation.network import Process, here

_RETRY_S = 0.05


class Metadata(NamedTuple):
    """What a delivered batch's future holds."""

    offset: int


def error_of(refusal: Refusal | str) -> Exception:
    """The exception aiokafka would raise."""
    name = refusal.error if isinstance(refusal, Refusal) else refusal
    if name == "InvalidProducerEpoch":
        return kafka_errors.ProducerFenced()
    error: Exception = getattr(kafka_errors, name)()
    return error


def code_of(refusal: Refusal | str) -> int:
    """Kafka's error code."""
    name = refusal.error if isinstance(refusal, Refusal) else refusal
    return int(getattr(kafka_errors, name).errno)


# --- producers --------------------------------------------------------------------------------------


class Builder:
    """A batch in the making, bounded by its size."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 61
        self._closed = False
        self.records: list[tuple[bytes | None, bytes | None, Sequence[Any]]] = []

    def append(
        self, *, timestamp: Any, key: bytes | None, value: bytes | None, headers: Sequence[Any] = ()
    ) -> Any:
        """See ``BatchBuilder``: None when it is full."""
        size = 20 + len(key or b"") + len(value or b"") + sum(30 + len(h[1] or b"") for h in headers)
        if self._closed or (self.records and self._size + size > self._limit):
            self._closed = True
            return None
        self._size += size
        self.records.append((key, value, tuple(headers)))
        return True

    def extend(
        self,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Any] | None,
        begin: int,
    ) -> int:
        """See the product's ``batch_builder``: the place of the first that was not taken."""
        for place in range(begin, len(keys)):
            own = () if headers is None else headers[place]
            if self.append(timestamp=None, key=keys[place], value=values[place], headers=own) is None:
                return place
        return len(keys)

    def size(self) -> int:
        """Bytes so far."""
        return self._size

    def record_count(self) -> int:
        """Records so far."""
        return len(self.records)

    def closed(self) -> bool:
        """May nothing more be appended?"""
        return self._closed

    def close(self) -> None:
        """Nothing more is appended."""
        self._closed = True


class Waiting:
    """A batch that waits for the sender or for its answer."""

    def __init__(self, builder: Builder, tp: TopicPartition, process: Process) -> None:
        self._builder = builder
        self.tp = tp
        self.future = process.create_future()
        self.retry_count = 0
        self.producer: tuple[int, int, int] | None = None

    def said(self) -> str:
        """Where it goes and how many records it has."""
        return f"{self.tp.topic}/{self.tp.partition} +{len(self._builder.records)}"

    def failure(self, exception: BaseException) -> None:
        """It is given up."""
        if not self.future.done():
            self.future.set_exception(exception)
            self.future.exception()


class Accumulator:
    """Batches by topic partition; the sender takes the first of each, one request at a time."""

    def __init__(self, process: Process, broker: Broker, limit: int) -> None:
        self._process = process
        self._broker = broker
        self._batch_size, self._compression_type = limit, 0
        self._exception: BaseException | None = None
        self._batches: dict[TopicPartition, deque[Waiting]] = {}
        self._txn_manager: Any = None
        self._in_flight: dict[TopicPartition, Waiting] = {}
        self._asked_to_send = False
        self.transactional_id: str | None = None

    def _append_batch(self, builder: Builder, tp: TopicPartition) -> Waiting:
        if self.transactional_id is not None:
            assert self._txn_manager.is_in_transaction()
            self._txn_manager._txn_partitions.add(tp)
        batch = Waiting(builder, tp, self._process)
        self._batches.setdefault(tp, deque()).append(batch)
        self.wake()
        return batch

    def fail_all(self, error: BaseException) -> None:
        """Give up what waits."""
        for batches in [*self._batches.values(), deque(self._in_flight.values())]:
            for batch in batches:
                batch.failure(error)
        self._batches.clear()

    def pending(self) -> list[asyncio.Future[Any]]:
        """Futures of all that waits."""
        waiting = [batch.future for batches in self._batches.values() for batch in batches]
        return waiting + [batch.future for batch in self._in_flight.values()]

    def wake(self) -> None:
        """Send in a moment."""
        if not self._asked_to_send and not self._in_flight:
            self._asked_to_send = True
            self._process.call_soon(self._send)

    def _send(self) -> None:
        self._asked_to_send = False
        if self._in_flight or not self._batches:
            return
        self._in_flight = {tp: self._pop(tp) for tp in list(self._batches)}
        asked = self._process.once(None, "", self._deliver, dict(self._in_flight))
        asked.add_done_callback(self._answered)

    def _pop(self, tp: TopicPartition) -> Waiting:
        batch = self._batches[tp].popleft()
        if not self._batches[tp]:
            del self._batches[tp]
        # As in aiokafka: id, epoch and sequence are given out once, and stay through all retries.
        if batch.retry_count == 0 and self._txn_manager is not None:
            sequence = self._txn_manager.sequence_number(tp)
            self._txn_manager.increment_sequence_number(tp, len(batch._builder.records))
            batch.producer = self._txn_manager.producer_id, self._txn_manager.producer_epoch, sequence
        batch.retry_count += 1
        return batch

    def _deliver(self, batches: dict[TopicPartition, Waiting]) -> dict[TopicPartition, Any]:
        """At the broker."""
        do, process = self._process.effects.do, self._process
        return {
            tp: do(process, self._effect(tp), batch.said, self._append, tp, batch)
            for tp, batch in batches.items()
        }

    def _effect(self, tp: TopicPartition) -> str:
        if self.transactional_id is not None:
            return "write records"
        return "publish fused" if tp.topic.endswith(".fused") else "publish aside"

    def _append(self, tp: TopicPartition, batch: Waiting) -> Any:
        if self.transactional_id is not None:
            assert batch.producer is not None
            error = self._broker.add_partitions(self.transactional_id, *batch.producer[:2], [tp])
            if error is not None:
                return Refusal(error)
        return self._broker.logs[tp].append(
            batch._builder.records,
            self._broker.clock.broker_ms(),
            batch.producer,
            transactional=self.transactional_id is not None,
        )

    def _answered(self, asked: asyncio.Future[Any]) -> None:
        batches, self._in_flight = self._in_flight, {}
        if asked.cancelled() or asked.exception() is not None:
            self._in_flight = batches
            self._process.call_later(_RETRY_S, self._again, batches)
            return
        answers = asked.result()
        self._process.effects.do(self._process, "acknowledge", "", self._hand_over, batches, answers)

    def _hand_over(self, batches: dict[TopicPartition, Waiting], answers: dict[TopicPartition, Any]) -> None:
        again: dict[TopicPartition, Waiting] = {}
        for tp, batch in batches.items():
            answer = answers[tp]
            if batch.future.done():
                continue
            if isinstance(answer, Refusal) and getattr(kafka_errors, answer.error).retriable:
                again[tp] = batch
            elif isinstance(answer, Refusal):
                batch.failure(error_of(answer))
            else:
                batch.future.set_result(Metadata(answer))
        if again:
            self._in_flight = again
            self._process.call_later(_RETRY_S, self._again, again)
        else:
            self.wake()

    def _again(self, batches: dict[TopicPartition, Waiting]) -> None:
        self._in_flight = {}
        for tp, batch in batches.items():
            if not batch.future.done():
                self._batches.setdefault(tp, deque()).appendleft(batch)
        self.wake()


class Producer:
    """``AIOKafkaProducer``: plain, idempotent or transactional."""

    def __init__(
        self,
        *,
        world: Any,
        transactional_id: str | None = None,
        enable_idempotence: bool = False,
        max_batch_size: int = 1 << 18,
        **_: Any,
    ) -> None:
        process = here()
        self._process = process
        self._broker: Broker = world.broker
        self._group = ""
        self._id = transactional_id
        self._message_accumulator = Accumulator(process, self._broker, max_batch_size)
        self._message_accumulator.transactional_id = transactional_id
        self._sender = SimpleNamespace(client=None, _txn_manager=None)
        self._txn_manager: Any = TransactionManager(transactional_id, 20_000) if transactional_id else None
        self._message_accumulator._txn_manager = self._txn_manager
        self.client = Client(process, world)

    async def start(self) -> None:
        """Connect; with a transactional id fence its holder."""
        if self._id is None or self._txn_manager.has_pid():
            return
        while True:
            found = await self._process.ask(
                self._broker.init_producer_id, self._id, effect="fence", detail=self._id
            )
            if not isinstance(found, Refusal):
                break
            await asyncio.sleep(0.01)
        self._txn_manager.set_pid_and_epoch(*found)

    async def stop(self) -> None:
        """Disconnect."""

    async def flush(self) -> None:
        """Wait for all that was handed over."""
        waiting = self._message_accumulator.pending()
        if waiting:
            await asyncio.wait(waiting)

    # --- transactions -------------------------------------------------------------------------------

    async def begin_transaction(self) -> None:
        """See aiokafka."""
        self._txn_manager.begin_transaction()

    async def send_offsets_to_transaction(self, offsets: Mapping[TopicPartition, Any], group_id: str) -> None:
        """See aiokafka."""
        if not self._txn_manager.is_in_transaction():
            raise kafka_errors.IllegalOperation("no transaction")
        self._group = group_id
        await self._coordinated("write offsets", self._broker.add_offsets, offsets)

    async def commit_transaction(self) -> None:
        """See aiokafka."""
        self._txn_manager.committing_transaction()
        await self._coordinated("commit transaction", self._broker.end_transaction, self._group)
        self._txn_manager._txn_partitions.clear()
        self._txn_manager.complete_transaction()

    async def _coordinated(self, effect: str, act: Any, *args: Any) -> None:
        pid, epoch = self._txn_manager.producer_id, self._txn_manager.producer_epoch
        while True:
            error = await self._process.ask(act, self._id, pid, epoch, *args, effect=effect, detail=self._id)
            if error is None:
                return
            if not getattr(kafka_errors, error).retriable:
                found = error_of(error)
                self._txn_manager.fatal_error(found)
                self._txn_manager.wait_for_transaction_end().exception()
                raise found
            await asyncio.sleep(0.01)


class Client:
    """``AIOKafkaClient`` as ``kafka.fence`` uses it."""

    def __init__(self, process: Process, world: Any) -> None:
        self._process = process
        self._broker: Broker = world.broker
        #: Fences under way, and whether their partitions were added already.
        self._fencing: dict[str, bool] = {}

    def add_topic(self, topic: str) -> None:
        """Every topic is known here."""

    async def _wait_on_metadata(self, topic: str) -> None:
        """Every topic is known."""

    async def coordinator_lookup(self, kind: Any, key: str) -> int:
        """There is one broker."""
        return 0

    async def close(self) -> None:
        """Disconnect."""

    async def send(self, node_id: int, request: Any) -> Any:
        """What ``fence`` asks."""
        broker, ask = self._broker, self._process.ask
        if isinstance(request, InitProducerIdRequest):
            name = request._transactional_id
            if name not in self._fencing:
                broker.on_fence(name, self._process)
                self._fencing[name] = False
            found = await ask(broker.init_producer_id, name, effect="fence", detail=name)
            if isinstance(found, Refusal):
                return SimpleNamespace(error_code=code_of(found))
            if self._fencing.get(name):
                del self._fencing[name]
            return SimpleNamespace(error_code=0, producer_id=found[0], producer_epoch=found[1])
        assert isinstance(request, AddPartitionsToTxnRequest)
        self._fencing[request._transactional_id] = True
        tps = [TopicPartition(topic, p) for topic, numbers in request._topics for p in numbers]
        error = await ask(
            broker.add_partitions,
            request._transactional_id,
            request._producer_id,
            request._producer_epoch,
            tps,
        )
        code = code_of(error) if error else 0
        return SimpleNamespace(errors=[(tp.topic, [(tp.partition, code)]) for tp in tps])


# --- readers ----------------------------------------------------------------------------------------


class AsideConsumer:
    """``AIOKafkaConsumer`` without a group, as ``LogReader`` uses it."""

    def __init__(self, *, world: Any, isolation_level: str, **_: Any) -> None:
        self._process = here()
        self._broker: Broker = world.broker
        self._client = Nodes(self._process, self._broker)
        self._committed = isolation_level == "read_committed"
        self._tp = TopicPartition("", 0)
        self._at = 0

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Disconnect."""

    async def beginning_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Nothing is ever removed here."""
        return dict.fromkeys(tps, 0)

    async def offsets_for_times(self, times: Mapping[TopicPartition, int]) -> dict[TopicPartition, Any]:
        """By the append time of the batches that the node has which is asked."""
        ((tp, timestamp),) = times.items()
        found = await self._process.ask(self._offset_at, tp, timestamp)
        return {tp: None if found is None else SimpleNamespace(offset=found)}

    def _offset_at(self, tp: TopicPartition, timestamp: int) -> int | None:
        found = self._broker.logs[tp].offset_at(timestamp)
        end, _ = self._client.end(self._client.leader, tp)
        return None if found is None or found >= end else found

    def assign(self, tps: Sequence[TopicPartition]) -> None:
        """See aiokafka."""
        (self._tp,) = tps

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """See aiokafka."""
        self._at = offset

    async def position(self, tp: TopicPartition) -> int:
        """See aiokafka."""
        return self._at

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[Chunk]]:
        """As an adopted fetcher answers."""
        log = self._broker.logs[self._tp]
        batches, after = await self._process.ask(lambda: log.read(self._at, committed=self._committed))
        chunk = Chunk(self._tp, self._at, after, batches)
        self._at = after
        return {self._tp: [chunk]} if batches else {}


class Admin:
    """``AIOKafkaAdminClient`` as the learner's restore uses it."""

    def __init__(self, *, world: Any, **_: Any) -> None:
        self._process = here()
        self._broker: Broker = world.broker

    async def start(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Disconnect."""

    async def list_consumer_group_offsets(self, group: str, partitions: Sequence[TopicPartition]) -> Any:
        """Offset and metadata; offset -1 where nothing was committed."""

        def look() -> dict[TopicPartition, Any]:
            offsets = self._broker.offsets[group]
            nothing = SimpleNamespace(offset=-1, metadata="")
            return {tp: offsets.get(tp, nothing) for tp in partitions}

        return await self._process.ask(look)
