"""What a ``LogReader`` finds in a real Kafka, also where the broker that is asked first knows only a part."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition

from stream_ensemble.kafka.tail import LogReader

#: More than are looked at in one go.
RECORDS = 300


async def written(bootstrap: str, topic: str) -> tuple[TopicPartition, list[int]]:
    """A partition with records of different times (ms), each in a batch of its own."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    tp = TopicPartition(topic, 0)
    times = [1_700_000_000_000 + 10 * n for n in range(RECORDS)]
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for at in times:
            await producer.send_and_wait(topic, b"x", partition=0, timestamp_ms=at)
    return tp, times


@pytest.mark.parametrize("lagging", [False, True])
async def test_the_first_record_since_a_time_is_found(
    kafka_bootstrap: str, ensemble_name: str, lagging: bool
) -> None:
    tp, times = await written(kafka_bootstrap, ensemble_name)
    async with LogReader({"bootstrap_servers": kafka_bootstrap}) as reader:
        if lagging:
            # A leader so new that nothing since then has reached it as far as it knows.
            reader._consumer.offsets_for_times = _knows_of_none  # type: ignore[method-assign]
        for place in (0, 1, 150, RECORDS - 17, RECORDS - 16, RECORDS - 1):
            assert await reader.offset_at(tp, times[place]) == place
            assert await reader.offset_at(tp, times[place] - 5) == place
        assert await reader.offset_at(tp, times[-1] + 1) is None
        assert await reader.last_time(tp) == times[-1]


async def test_an_empty_partition_has_no_times(kafka_bootstrap: str, ensemble_name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(ensemble_name, 1, 1)])
    await admin.close()
    async with asyncio.timeout(20), LogReader({"bootstrap_servers": kafka_bootstrap}) as reader:
        tp = TopicPartition(ensemble_name, 0)
        assert await reader.offset_at(tp, 0) is None
        assert await reader.last_time(tp) is None


async def _knows_of_none(times: Mapping[TopicPartition, int]) -> Any:
    return dict.fromkeys(times)
