"""Publishers in other languages: where their clients put a key, and what that costs the fuser."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.messages import HEADER_FORWARDED
from tests.clients import console_producer
from tests.integration.fuser_world import MEMBERS, PARTITIONS, ids
from tests.integration.shared_fuser import Shared, ends, shared_fuser

COUNT = 60


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def shared(
    runner: asyncio.Runner, kafka_bootstrap: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shared]:
    with shared_fuser(
        runner, kafka_bootstrap, redis_url, tmp_path_factory.mktemp("fuser"), deadline_ms=20_000
    ) as shared:
        yield shared


Records = list[tuple[str, bytes]]
Client = Callable[[str, str, Records, Path], None]


def librdkafka(partitioner: str) -> Client:
    def publish(bootstrap: str, topic: str, records: Records, folder: Path) -> None:
        client = Producer({"bootstrap.servers": bootstrap, "partitioner": partitioner})
        for key, value in records:
            client.produce(topic, value, key)
        assert client.flush(30) == 0

    return publish


def compressing(codec: str) -> Client:
    def publish(bootstrap: str, topic: str, records: Records, folder: Path) -> None:
        client = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "compression.codec": codec,
                "linger.ms": 50,
            }
        )
        for key, value in records:
            client.produce(topic, value, key)
        assert client.flush(30) == 0

    return publish


def crc32(key: bytes) -> int:
    return zlib.crc32(key) % PARTITIONS


def murmur2(key: bytes) -> int:
    return partition_of(key, PARTITIONS)


CLIENTS = {
    "c-default": (librdkafka("consistent_random"), crc32),
    "c-murmur2": (librdkafka("murmur2_random"), murmur2),
    "java": (console_producer.produce, murmur2),
}


@pytest.mark.parametrize("name", CLIENTS)
async def test_what_a_client_puts_on_another_partition_is_moved_once_and_all_is_fused_once(
    name: str, shared: Shared, kafka_bootstrap: str, tmp_path: Path
) -> None:
    publish, placed = CLIENTS[name]
    world, requests = shared.world, ids(name, COUNT)
    misplaced = {r for r in requests if placed(r.encode()) != murmur2(r.encode())}
    assert bool(misplaced) == (placed is crc32)
    before = shared.counts()
    for member, topic in zip(MEMBERS, world.topics.predictions, strict=True):
        # One Java is enough: it takes a second to start.
        client = librdkafka("murmur2_random") if name == "java" and member != "a" else publish
        records = [(request_id, world.prediction(request_id, member)) for request_id in requests]
        await asyncio.to_thread(client, kafka_bootstrap, topic, records, tmp_path)
    fused = await world.fused_of(requests)
    counts = shared.counts() - before
    assert ends(fused) == {("complete", None)}
    moved = len(misplaced) * len(MEMBERS)
    expected = {"complete": COUNT, "used": COUNT * len(MEMBERS), "forwarded": moved}
    assert counts == {what: count for what, count in expected.items() if count}
    for topic in world.topics.predictions:
        standing = [record for record in await world.standing(topic) if record.key.decode() in requests]
        assert len(standing) == COUNT + len(misplaced)
        again = [record for record in standing if record.headers]
        assert {record.key.decode() for record in again} == misplaced
        for record in again:
            assert record.partition == murmur2(record.key)
            origin = json.loads(dict(record.headers)[HEADER_FORWARDED])
            assert (origin["topic"], origin["partition"]) == (topic, crc32(record.key))


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_batch_is_read_however_it_is_compressed(
    codec: str, shared: Shared, kafka_bootstrap: str, tmp_path: Path
) -> None:
    world, requests = shared.world, ids(codec, COUNT)
    before = shared.counts()
    for member, topic in zip(MEMBERS, world.topics.predictions, strict=True):
        records = [(request_id, world.prediction(request_id, member)) for request_id in requests]
        await asyncio.to_thread(compressing(codec), kafka_bootstrap, topic, records, tmp_path)
    assert ends(await world.fused_of(requests)) == {("complete", None)}
    assert shared.counts() - before == {"complete": COUNT, "used": COUNT * len(MEMBERS)}
