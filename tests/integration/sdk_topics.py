"""The topics of a small ensemble for the SDK's tests, made and read with plain clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from stream_ensemble import config
from stream_ensemble.kafka.admin import admin_client, create_topics
from stream_ensemble.kafka.topology import wanted_topics

CLASSES = ["cat", "dog", "other"]
RIGHT = [0.5, 0.25, 0.25]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PARTITIONS = 4
_READ_TIMEOUT_S = 30.0


def settings_of(bootstrap: str, ensemble: str, **kafka: float) -> config.Settings:
    """One ensemble of the members a and b, its group ids unlike any other test's."""
    # The shortest session Kafka takes by default: a killed member is in the way of its group for as long.
    short = {"session_timeout_s": 6.0, "rebalance_timeout_s": 10.0} | kafka
    return config.Settings(
        app=ensemble,
        kafka=config.Kafka(bootstrap_servers=[bootstrap], **short),  # type: ignore[arg-type]
        ensembles={
            ensemble: config.Ensemble(
                members=["a", "b"], task=config.Task(classes=CLASSES), partitions=PARTITIONS
            )
        },
    )


def topics_of(settings: config.Settings) -> config.TopicNames:
    ((name, ensemble),) = settings.ensembles.items()
    return config.topic_names(name, ensemble)


async def make_topics(settings: config.Settings, *, largest_batch: int = 1 << 20) -> None:
    limit = {"max.message.bytes": str(largest_batch)}
    wanted = [msgspec.structs.replace(topic, exact=topic.exact | limit) for topic in wanted_topics(settings)]
    async with admin_client(settings.kafka) as client:
        await create_topics(client, wanted, settings.kafka)


async def read_until(
    settings: config.Settings, topic: str, enough: Callable[[list[ConsumerRecord]], bool]
) -> list[ConsumerRecord]:
    """Everything in ``topic`` from its beginning, as soon as there is enough of it."""
    found: list[ConsumerRecord] = []
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap_servers, auto_offset_reset="earliest"
    )
    consumer.assign([TopicPartition(topic, partition) for partition in range(PARTITIONS)])
    await consumer.start()
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            while not enough(found):
                polled = await consumer.getmany(timeout_ms=100)
                found += [record for records in polled.values() for record in records]
    except TimeoutError:
        raise AssertionError(f"{topic} holds only {[record.value for record in found]}") from None
    finally:
        await consumer.stop()
    return found


async def read(settings: config.Settings, topic: str, count: int) -> list[ConsumerRecord]:
    """The first ``count`` records of ``topic``, and what came with them."""
    return await read_until(settings, topic, lambda found: len(found) >= count)


async def write(settings: config.Settings, topic: str, values: list[tuple[str, bytes]]) -> None:
    """Writes key and value as any other client would."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
        for key, value in values:
            await producer.send_and_wait(topic, value, key.encode())


async def committed(settings: config.Settings, group: str, topic: str) -> dict[int, int]:
    """The group's committed offset of every partition that has one."""
    async with admin_client(settings.kafka) as client:
        offsets = await client.list_consumer_group_offsets(group)
    return {tp.partition: found.offset for tp, found in offsets.items() if tp.topic == topic}


async def ends(settings: config.Settings, topic: str) -> dict[int, int]:
    """The end offset of every partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka.bootstrap_servers)
    await consumer.start()
    try:
        found = await consumer.end_offsets(
            [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        )
        return {tp.partition: offset for tp, offset in found.items()}
    finally:
        await consumer.stop()


def fused_value(request_id: str, **more: Any) -> bytes:
    """A fused record as a fuser would write it, with ``more`` over it."""
    record = {
        "version": 1,
        "kind": "fused",
        "request_id": request_id,
        "status": "complete",
        "at": 5,
        "output": RIGHT,
        "label": "cat",
        "components": {"a": RIGHT},
        "sources": {"a": ["t", 0, 1, 0]},
        "weights_version": {"generation": 0, "n": 0, "digest": "d"},
        "config": "c",
    }
    return json.dumps(record | more).encode()
