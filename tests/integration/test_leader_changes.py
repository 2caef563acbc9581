"""Three brokers, stopped one after the other in order, while records are written and ends are asked for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition

from stream_ensemble.kafka.chunks import EndEvidence
from stream_ensemble.kafka.end_proofs import READ_COMMITTED, EndProofs
from stream_ensemble.kafka.fetching import adopt
from stream_ensemble.kafka.tail import LogReader
from tests.chaos.brokers import Brokers

TPS = [TopicPartition("predictions", number) for number in range(9)]


class Acknowledged:
    """What was acknowledged, and when by the monotonic clock."""

    def __init__(self) -> None:
        self.by_partition: defaultdict[TopicPartition, list[tuple[float, int]]] = defaultdict(list)

    def add(self, tp: TopicPartition, offset: int) -> None:
        self.by_partition[tp].append((time.monotonic(), offset))

    def end(self, tp: TopicPartition, before: float) -> int:
        """Behind all that was acknowledged before then."""
        return max((at + 1 for when, at in self.by_partition[tp] if when < before), default=0)


class NotedProofs(EndProofs):
    """Keeps every proof, and every end that a fetch found."""

    def __init__(self, client: Any) -> None:
        super().__init__(client, READ_COMMITTED)
        self.fetched: list[tuple[TopicPartition, EndEvidence]] = []
        self.proved_ends: list[tuple[TopicPartition, EndEvidence]] = []

    def found(self, node: int, asked_at: float, ends: Any) -> None:
        self.fetched += [(tp, EndEvidence(asked_at, offset)) for tp, offset in ends.items()]
        super().found(node, asked_at, ends)

    def _note(self, tp: TopicPartition, end: EndEvidence) -> None:
        self.proved_ends.append((tp, end))
        super()._note(tp, end)


async def write(producer: AIOKafkaProducer, tp: TopicPartition, acknowledged: Acknowledged) -> None:
    while True:
        sent = await producer.send_and_wait(tp.topic, b"prediction", partition=tp.partition)
        acknowledged.add(tp, sent.offset)
        await asyncio.sleep(0.005)


async def renew(producer: AIOKafkaProducer) -> None:
    """Follow the leaders soon, so that much is acknowledged while the old ones have not heard of them."""
    while True:
        await producer.client.force_metadata_update()
        await asyncio.sleep(0.02)


async def read(consumer: AIOKafkaConsumer) -> None:
    while True:
        await consumer.getmany(timeout_ms=100)


async def look_aside(options: dict[str, Any], acknowledged: Acknowledged, wrong: list[str]) -> None:
    async with LogReader(options) as reader:
        while True:
            asked_at = time.monotonic()
            for tp, (_, end) in (await reader.spans(TPS)).items():
                if end < acknowledged.end(tp, asked_at):
                    wrong.append(f"{tp.partition}: {end} < {acknowledged.end(tp, asked_at)}")
            await asyncio.sleep(0.02)


def false_ends(ends: list[tuple[TopicPartition, EndEvidence]], acknowledged: Acknowledged) -> list[str]:
    return [
        f"{tp.partition}: {end.offset} < {acknowledged.end(tp, end.asked_at)}"
        for tp, end in ends
        if end.offset < acknowledged.end(tp, end.asked_at)
    ]


@pytest.mark.timeout(200)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_no_end_is_proved_that_lies_before_what_was_acknowledged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "aiokafka")
    brokers = Brokers(3, tmp_path)
    await brokers.start()
    try:
        async with asyncio.timeout(150):
            await _change_leaders(brokers)
    finally:
        await brokers.stop()


async def _change_leaders(brokers: Brokers) -> None:
    options: dict[str, Any] = {"bootstrap_servers": brokers.direct}
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    await admin.create_topics([NewTopic("predictions", len(TPS), 3)])
    await admin.close()
    acknowledged, aside = Acknowledged(), []
    producer = AIOKafkaProducer(**options, acks="all", enable_idempotence=True)
    consumer = AIOKafkaConsumer(
        **options, fetch_max_wait_ms=50, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    async with producer, consumer:
        proofs = NotedProofs(consumer._client)
        consumer.assign(TPS)
        adopt(consumer, proofs)
        tasks = [asyncio.create_task(write(producer, tp, acknowledged)) for tp in TPS]
        tasks += [
            asyncio.create_task(renew(producer)),
            asyncio.create_task(read(consumer)),
            asyncio.create_task(look_aside(options, acknowledged, aside)),
        ]
        await asyncio.sleep(1.0)
        # A stopped broker names such an end as a rule, not always.
        for place in range(3 * len(brokers.nodes)):
            node = brokers.nodes[place % len(brokers.nodes)]
            await asyncio.to_thread(node.stop)
            await asyncio.to_thread(node.start)
            await asyncio.sleep(2.0)
            if place + 1 >= len(brokers.nodes) and false_ends(proofs.fetched, acknowledged):
                break
        ended = [task.exception() for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, kafka_errors.KafkaError):
            await asyncio.gather(*tasks)
    assert ended == []
    # Brokers do name such ends, or this would show nothing.
    assert false_ends(proofs.fetched, acknowledged)
    assert {tp for tp, _ in proofs.proved_ends} == set(TPS)
    assert false_ends(proofs.proved_ends, acknowledged) == []
    assert aside == []
