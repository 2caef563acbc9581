"""Batches that nobody can read do not stop those who read with the SDK: what stands around them comes."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from aiokafka import AIOKafkaProducer

from stream_ensemble import config
from stream_ensemble.core.partitioning import partitions_of
from stream_ensemble.errors import RecordError
from stream_ensemble.sdk import FusedConsumer, ModelWorker, RequestPublisher
from tests.integration.sdk_topics import (
    PARTITIONS,
    RIGHT,
    fused_value,
    read_until,
    topics_of,
)
from tests.integration.test_unreadable_batches import UNREADABLE
from tests.raw_records import append

WAIT_S = 60.0


async def spoil(settings: config.Settings, topic: str, partition: int) -> None:
    """Append all that cannot be read."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
        for raw in UNREADABLE:
            await append(producer, topic, partition, raw, int.from_bytes(raw[57:61], "big"))


async def test_a_model_worker_answers_what_stands_around_them(
    settings: config.Settings, ensemble_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [f"r{n}" for n in range(40)]
    here = partitions_of([ids[0].encode()], PARTITIONS).item()
    async with RequestPublisher(settings, ensemble_name) as requests:
        await asyncio.gather(*(requests.publish(request_id, None) for request_id in ids[:20]))
        topic = topics_of(settings).requests
        assert topic is not None
        await spoil(settings, topic, here)
        await asyncio.gather(*(requests.publish(request_id, None) for request_id in ids[20:]))
    worker = ModelWorker(settings, ensemble_name, "a", lambda batch: [RIGHT for _ in batch], max_batch=7)
    with caplog.at_level(logging.ERROR):
        working = asyncio.create_task(worker.serve())
        try:
            found = await read_until(
                settings,
                topics_of(settings).predictions[0],
                lambda records: working.done() or len(records) >= len(ids),
            )
        finally:
            worker.stop()
            async with asyncio.timeout(WAIT_S):
                await working
    assert sorted(json.loads(record.value)["request_id"] for record in found) == sorted(ids)
    assert caplog.text.count("have these records published again") == len(UNREADABLE)


async def test_a_fused_consumer_says_so_and_goes_on(settings: config.Settings, ensemble_name: str) -> None:
    topic = topics_of(settings).fused
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
        await producer.send_and_wait(topic, fused_value("before"), b"before", partition=2)
        await spoil(settings, topic, 2)
        await producer.send_and_wait(topic, fused_value("after"), b"after", partition=2)
    seen: list[str] = []
    async with FusedConsumer(settings, ensemble_name, from_beginning=True) as consumer:
        async with asyncio.timeout(WAIT_S):
            while seen[-1:] != ["after"]:
                try:
                    seen.append((await anext(consumer)).request_id)
                except RecordError as error:
                    assert f"{topic}-2 at offset" in str(error)
                    seen.append(error.reason)
    assert seen == ["before", *["unreadable"] * len(UNREADABLE), "after"]
