"""What a partition gathers for its transactions, and who is told what of it; the broker is stood in for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from aiokafka.errors import ProducerClosed
from aiokafka.structs import TopicPartition

from stream_ensemble import config
from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.fuser.delivery import DeliveryMode
from stream_ensemble.fuser.transactions import PartitionTransactions
from stream_ensemble.kafka import fenced_producer
from stream_ensemble.kafka.batch_builder import batch_builder
from stream_ensemble.kafka.fence import Fence
from stream_ensemble.kafka.fenced_producer import FencedProducer
from stream_ensemble.kafka.transactional_output import Batch

FUSED, LATE, INPUT = TopicPartition("fused", 0), TopicPartition("late", 0), TopicPartition("in", 0)
HELD = Fence(7, 3, 1)


class Output:
    """Instead of a TransactionalOutput: each transaction waits until the test lets it go on."""

    def __init__(self) -> None:
        self.written: list[list[tuple[TopicPartition, int]]] = []
        self.offsets: list[Any] = []
        self.begun = asyncio.Event()
        self.acknowledge = asyncio.Event()
        self.failure: Exception | None = None
        self.stopped = False
        self.held: Fence | None = None

    async def start(self, held: Fence) -> None:
        self.held = held

    def batch(self) -> Any:
        return batch_builder(200, 0, transactional=True)

    async def commit_batches(
        self, batches: Sequence[Batch], offsets: Callable[[], Awaitable[Any]], metadata: str
    ) -> None:
        self.written.append([(tp, builder.record_count()) for tp, builder in batches])
        self.begun.set()
        await self.acknowledge.wait()
        if self.failure is not None:
            raise self.failure
        self.offsets.append(await offsets())

    async def stop(self) -> None:
        self.stopped = True


class World:
    """A partition's transactions every 10 ms, whose inputs are released by what is acknowledged."""

    def __init__(self, interval_s: float = 0.01, max_bytes_in_flight: int = 1 << 20) -> None:
        self.output = Output()
        self.producer = FencedProducer(
            {"bootstrap_servers": "127.0.0.1:1"},
            max_batch_bytes=1 << 16,
            max_bytes_in_flight=max_bytes_in_flight,
        )
        self.transactions = PartitionTransactions(self.producer, self.output, interval_s, 0.0)  # type: ignore[arg-type]
        self.released = 0
        self.told: list[BaseException] = []

    async def begin(self) -> None:
        assert await self.transactions.fence("id", [FUSED, LATE]) == self.output.held == HELD
        self.transactions.begin(lambda: {INPUT: self.released}, self.told.append)

    def send(self, count: int, tp: TopicPartition = FUSED) -> list[asyncio.Future[Any]]:
        sent = self.transactions.send(tp, [b"k"] * count, [b"v" * 30] * count)
        assert [place for one in sent for place in range(one.begin, one.end)] == list(range(count))
        for one in sent:
            one.future.add_done_callback(lambda done, one=one: self._release(done, one.end - one.begin))
        return [one.future for one in sent]

    def _release(self, done: asyncio.Future[Any], count: int) -> None:
        self.released += count if done.exception() is None else 0

    async def end(self) -> None:
        await self.transactions.abandon()
        for one in (self.producer._producer, self.producer._plain):
            one._message_accumulator.fail_all(ProducerClosed())
            await one.stop()


@pytest.fixture(autouse=True)
def fenced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fence(*_: Any, **__: Any) -> Fence:
        return HELD

    monkeypatch.setattr(fenced_producer, "fence", fence)


async def test_what_comes_while_a_transaction_is_written_belongs_to_the_next() -> None:
    world = World()
    await world.begin()
    first = world.send(7) + world.send(1, LATE)
    await world.output.begun.wait()
    second = world.send(2)
    assert sum(count for _, count in world.output.written[0]) == 8
    assert len(first) > 2, "a batch is closed at its size"
    world.output.acknowledge.set()
    await asyncio.wait(first)
    assert not second[0].done()
    await asyncio.wait(second)
    await world.transactions.finish()
    assert world.output.written[1] == [(FUSED, 2)]
    # Offsets are those of what was acknowledged, never of what is still gathered.
    assert [offsets[INPUT] for offsets in world.output.offsets] == [8, 10]
    assert world.output.stopped and not world.told
    assert world.producer.bytes_in_flight == 0
    await world.end()


async def test_a_transaction_that_failed_gives_up_all_and_tells_once() -> None:
    world = World()
    await world.begin()
    first = world.send(1)
    await world.output.begun.wait()
    second = world.send(1)
    world.output.failure = ServerUnavailableError("Kafka is away")
    world.output.acknowledge.set()
    await asyncio.wait([*first, *second])
    assert [future.exception() for future in (*first, *second)] == [world.output.failure] * 2
    await world.transactions.finish()
    assert world.told == [world.output.failure]
    assert len(world.output.written) == 1 and world.producer.bytes_in_flight == 0
    await world.end()


async def test_what_fills_the_worker_is_committed_before_its_interval_ends() -> None:
    world = World(interval_s=60.0, max_bytes_in_flight=300)
    ensembles = {"e": config.Ensemble(members=["a"], task=config.Task(classes=["x", "y"]))}
    settings = config.Settings(ensembles=ensembles, kafka=config.Kafka(delivery="transactions"))
    mode = DeliveryMode(settings, world.producer, {}, "group")
    mode._of["e", 0] = world.transactions
    world.output.acknowledge.set()
    await world.begin()
    # The first transaction begins at once, with nothing in it.
    await world.output.begun.wait()
    sent = world.send(3)
    await asyncio.wait_for(mode.room(), 1.0)
    assert not any(world.output.written), "there is room, nobody hurries"
    sent += world.send(10)
    assert world.producer.full
    await asyncio.wait_for(mode.room(), 1.0)
    assert all(future.done() for future in sent)
    assert world.producer.bytes_in_flight == 0 and world.released == 13
    await world.end()


async def test_what_is_no_part_of_a_transaction_is_sent_at_once() -> None:
    world = World()
    await world.begin()
    (sent,) = world.transactions.send(INPUT, [b"k"], [b"v"])
    waiting = world.producer._plain._message_accumulator._batches[INPUT]
    assert [batch.future for batch in waiting] == [sent.future]
    await world.end()


async def test_what_is_abandoned_fails() -> None:
    world = World()
    await world.begin()
    (future,) = world.send(1)
    await world.output.begun.wait()
    await world.transactions.abandon()
    assert isinstance(future.exception(), ProducerClosed)
    assert world.output.stopped and not world.told
    await world.end()
