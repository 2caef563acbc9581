"""Fetches of megabytes, read straight into their place, say the same as small ones."""

from __future__ import annotations

import asyncio
import gc
import random
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.protocol.api import RequestStruct
from aiokafka.protocol.produce import ProduceRequest

from stream_ensemble.kafka.fetching import adopt
from stream_ensemble.kafka.frames import JoiningClient

_RECORDS = 12_000


async def _publish(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_batch_size=256 << 10)
    await producer.start()
    producer._sender.client = JoiningClient(producer._sender.client)
    try:
        for value in values:
            await producer.send(topic, value, partition=0)
        await producer.flush()
    finally:
        await producer.stop()


async def _values(bootstrap: str, topic: str, limit: int) -> tuple[list[bytes], int]:
    """All values, and the size of the largest chunk."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=limit
    )
    await consumer.start()
    fetcher = adopt(consumer)
    found: list[bytes] = []
    largest = 0
    try:
        async with asyncio.timeout(30):
            while len(found) < _RECORDS:
                for chunks in (await fetcher.fetched_records([], timeout=1)).values():
                    for chunk in chunks:
                        assert chunk.raws is not None
                        largest = max(largest, chunk.size)
                        found += [record.value for record in chunk.columns().records]
    finally:
        await consumer.stop()
    return found, largest


async def test_large_and_small_fetches_bring_the_same(kafka_bootstrap: str) -> None:
    topic = f"large-{uuid.uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    given = random.Random(5)
    values = [given.randbytes(given.randrange(2000)) for _ in range(_RECORDS)]
    await _publish(kafka_bootstrap, topic, values)
    for limit in (16 << 10, 300 << 10, 16 << 20):
        found, largest = await _values(kafka_bootstrap, topic, limit)
        assert found == values
        assert largest <= max(limit, 256 << 10)
    assert largest > 1 << 20


async def test_nothing_that_was_fetched_or_sent_waits_for_a_collection(kafka_bootstrap: str) -> None:
    """A collection is rare in a worker, and what waits for it are megabytes."""
    topic = f"freed-{uuid.uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    gc.collect()
    gc.disable()
    try:
        await _publish(kafka_bootstrap, topic, [b"value" * 100] * _RECORDS)
        await _values(kafka_bootstrap, topic, 1 << 20)
        left = [item for item in gc.get_objects() if isinstance(item, PartitionRecords | RequestStruct)]
    finally:
        gc.enable()
    assert not [item for item in left if getattr(item, "API_KEY", None) == ProduceRequest.API_KEY]
    assert not [item for item in left if isinstance(item, PartitionRecords)]
