"""The embedded Kafka: a real broker, with and without passwords, that keeps what it acknowledged."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from stream_ensemble.embedded import EmbeddedKafka
from stream_ensemble.embedded.kafka_probe import has_brokers

pytestmark = pytest.mark.real
TIMEOUT_S = 30.0


async def create(options: dict[str, Any], topic: str) -> None:
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=3, replication_factor=1)])
    finally:
        await admin.close()


async def produce(options: dict[str, Any], topic: str, values: list[bytes], **more: Any) -> None:
    async with AIOKafkaProducer(**options, **more) as producer:
        if "transactional_id" not in more:
            for value in values:
                await producer.send_and_wait(topic, value)
            return
        async with producer.transaction():
            for value in values:
                await producer.send_and_wait(topic, value)


async def consume(options: dict[str, Any], topic: str, count: int) -> set[bytes]:
    values: set[bytes] = set()
    async with (
        asyncio.timeout(TIMEOUT_S),
        AIOKafkaConsumer(
            topic,
            group_id="readers",
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            enable_auto_commit=False,
            **options,
        ) as consumer,
    ):
        while len(values) < count:
            values.add((await consumer.getone()).value)
    return values


async def test_what_was_acknowledged_is_read_also_after_a_kill(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path / "a, b ü") as kafka:
        await create(kafka.client_options, "plain")
        await produce(kafka.client_options, "plain", [b"1", b"2"])
        await produce(kafka.client_options, "plain", [b"3"], transactional_id="t")
        assert await consume(kafka.client_options, "plain", 3) == {b"1", b"2", b"3"}
        kafka.kill()
        kafka.start()
        await produce(kafka.client_options, "plain", [b"4"], transactional_id="t")
        assert await consume(kafka.client_options, "plain", 4) == {b"1", b"2", b"3", b"4"}


async def test_topics_do_not_appear_by_themselves(kafka_bootstrap: str, ensemble_name: str) -> None:
    async with AIOKafkaConsumer(bootstrap_servers=kafka_bootstrap) as consumer:
        consumer.subscribe([f"{ensemble_name}.nothing"])
        assert await consumer.getmany(timeout_ms=300) == {}
        assert f"{ensemble_name}.nothing" not in await consumer.topics()


async def test_the_password_opens_and_nothing_else_does(tmp_path: Path) -> None:
    user, password = "al'ice", 'pa$s "w\\örd'
    with EmbeddedKafka(tmp_path, sasl=(user, password)) as kafka:
        right = kafka.client_options
        await create(right, "guarded")
        await produce(right, "guarded", [b"1"], transactional_id="t")
        assert await consume(right, "guarded", 1) == {b"1"}
        without = {"bootstrap_servers": kafka.bootstrap}
        for wrong in (right | {"sasl_plain_password": "x"}, right | {"sasl_plain_username": "bob"}, without):
            assert not has_brokers(wrong, timeout_s=2)
        assert has_brokers(right, timeout_s=TIMEOUT_S)
        kafka.restart()
        assert await consume(right, "guarded", 1) == {b"1"}
    assert (tmp_path / "server.properties").stat().st_mode & 0o077 == 0
    assert password not in kafka.log_file.read_text()


def test_a_paused_broker_answers_nothing_until_it_goes_on() -> None:
    with EmbeddedKafka() as kafka:
        kafka.pause()
        assert not has_brokers(kafka.client_options, timeout_s=0.5)
        kafka.resume()
        assert has_brokers(kafka.client_options, timeout_s=TIMEOUT_S)


def test_a_quiet_start_logs_one_binding_and_no_error() -> None:
    with EmbeddedKafka() as kafka:
        kafka.stop()
        log = kafka.log_file.read_text()
    assert "SLF4J" not in log
    assert "ERROR" not in log
    assert "deprecated" not in log
    assert all(" WARN " in line for line in log.splitlines())


def test_a_benchmark_may_use_the_whole_compiler() -> None:
    with EmbeddedKafka(fast_jit=False, heap_mb=1024) as kafka:
        assert has_brokers(kafka.client_options, timeout_s=TIMEOUT_S)
