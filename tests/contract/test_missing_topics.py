"""What a client learns of its topics when the brokers are away at the moment it asks. A real Kafka."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient

from stream_ensemble.embedded import EmbeddedKafka
from stream_ensemble.kafka.missing_topics import look_for_missing_topics

pytestmark = pytest.mark.real

TOPIC = "there"
FOREVER_MS = 3_600_000


async def _created(kafka: EmbeddedKafka) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, 3, 1)])
    finally:
        await admin.close()


async def _known(client: AIOKafkaClient) -> None:
    looks = 0
    while client.cluster.partitions_for_topic(TOPIC) != {0, 1, 2}:
        looks += 1
        await asyncio.sleep(0.1)


async def test_topics_are_asked_for_until_they_are_known() -> None:
    with EmbeddedKafka() as kafka:
        await _created(kafka)
        client = AIOKafkaClient(
            bootstrap_servers=kafka.address, metadata_max_age_ms=FOREVER_MS, request_timeout_ms=2000
        )
        await client.bootstrap()
        try:
            await asyncio.to_thread(kafka.kill)
            assert not await client.set_topics([TOPIC])
            await asyncio.to_thread(kafka.start)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    await _known(client)
                    pytest.fail("aiokafka asks again by itself now: is this module still needed?")
            looking = asyncio.create_task(look_for_missing_topics(client, 0.1))
            async with asyncio.timeout(20.0):
                await _known(client)
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
        finally:
            await client.close()
