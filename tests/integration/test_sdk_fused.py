"""FusedConsumer on a real Kafka: what it yields, where it starts, what it commits."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer

from stream_ensemble import config
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import Fused
from stream_ensemble.sdk import FusedConsumer, FusedRecord
from tests.integration.sdk_topics import (
    TRACE,
    committed,
    fused_value,
    topics_of,
    write,
)

WAIT_S = 30.0


async def take(consumer: FusedConsumer, count: int) -> list[FusedRecord]:
    found: list[FusedRecord] = []
    async with asyncio.timeout(WAIT_S):
        while len(found) < count:
            found.append(await anext(consumer))
    return found


async def write_fused(settings: config.Settings, *request_ids: str) -> None:
    await write(
        settings,
        topics_of(settings).fused,
        [(request_id, fused_value(request_id)) for request_id in request_ids],
    )


async def test_a_record_comes_with_where_it_stands_and_its_trace(
    settings: config.Settings, ensemble_name: str
) -> None:
    topic = topics_of(settings).fused
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
        value = fused_value("r", unknown_field=1)
        written = await producer.send_and_wait(
            topic, value, b"r", partition=2, headers=[("traceparent", TRACE.encode())]
        )
    async with FusedConsumer(settings, ensemble_name, from_beginning=True) as consumer:
        (record,) = await take(consumer, 1)
    assert isinstance(record, Fused)
    assert (record.request_id, record.status, record.label) == ("r", "complete", "cat")
    assert (record.output, record.sources) == ([0.5, 0.25, 0.25], {"a": ("t", 0, 1, 0)})
    assert (record.partition, record.offset, record.appended) == (2, written.offset, written.timestamp)
    assert record.traceparent == TRACE


@pytest.mark.parametrize("group", [None, "group"])
async def test_without_from_beginning_only_what_comes_after_entering_is_read(
    settings: config.Settings, ensemble_name: str, group: str | None
) -> None:
    named = group and f"{ensemble_name}-{group}"
    await write_fused(settings, "before")
    async with FusedConsumer(settings, ensemble_name, group=named) as consumer:
        await write_fused(settings, "after")
        assert [record.request_id for record in await take(consumer, 1)] == ["after"]


async def test_a_new_group_that_read_nothing_still_goes_on_from_where_it_began(
    settings: config.Settings, ensemble_name: str
) -> None:
    group = f"{ensemble_name}-g"
    async with FusedConsumer(settings, ensemble_name, group=group):
        pass
    await write_fused(settings, "while away")
    async with FusedConsumer(settings, ensemble_name, group=group) as consumer:
        assert [record.request_id for record in await take(consumer, 1)] == ["while away"]


async def test_the_record_in_hand_comes_again_and_those_before_it_do_not(
    settings: config.Settings, ensemble_name: str
) -> None:
    group = f"{ensemble_name}-g"
    # One request id, so one partition: the order is known.
    topic = topics_of(settings).fused
    await write(settings, topic, [("k", fused_value(request_id)) for request_id in ("r0", "r1", "r2", "r3")])
    seen = []
    with pytest.raises(RuntimeError, match="cannot handle r2"):
        async with FusedConsumer(settings, ensemble_name, group=group, from_beginning=True) as consumer:
            async for record in consumer:
                seen.append(record.request_id)
                if record.request_id == "r2":
                    raise RuntimeError("cannot handle r2")
    assert seen == ["r0", "r1", "r2"]
    async with FusedConsumer(settings, ensemble_name, group=group) as consumer:
        assert [record.request_id for record in await take(consumer, 2)] == ["r2", "r3"]
        await consumer.commit()
    assert max((await committed(settings, group, topic)).values()) == 4


async def test_processed_records_are_committed_while_the_loop_waits_for_more(
    settings: config.Settings, ensemble_name: str
) -> None:
    group, topic = f"{ensemble_name}-g", topics_of(settings).fused
    await write(settings, topic, [("k", fused_value("r0"))])
    async with FusedConsumer(settings, ensemble_name, group=group, from_beginning=True) as consumer:
        await take(consumer, 1)
        waiting = asyncio.create_task(take(consumer, 1))
        async with asyncio.timeout(WAIT_S):
            while 1 not in (await committed(settings, group, topic)).values():  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.05)
        await write(settings, topic, [("k", fused_value("r1"))])
        assert [record.request_id for record in await waiting] == ["r1"]


async def test_a_group_of_two_shares_the_records_and_skips_none(
    settings: config.Settings, ensemble_name: str
) -> None:
    group = f"{ensemble_name}-g"
    ids = {f"r{row}" for row in range(200)}
    seen: list[set[str]] = [set(), set()]
    enough = asyncio.Event()

    async def consume(place: int, entered: asyncio.Event) -> None:
        consumer = FusedConsumer(settings, ensemble_name, group=group, from_beginning=True)
        async with consumer:
            entered.set()
            async for record in consumer:
                seen[place].add(record.request_id)
                if seen[0] | seen[1] == ids:
                    enough.set()

    tasks = []
    async with asyncio.timeout(WAIT_S):
        for place in range(2):
            entered = asyncio.Event()
            tasks.append(asyncio.create_task(consume(place, entered)))
            await entered.wait()
        await write_fused(settings, *ids)
        await enough.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert seen[0]
    assert seen[1]


async def test_a_record_of_another_version_is_named_and_iterating_on_skips_it(
    settings: config.Settings, ensemble_name: str
) -> None:
    topic = topics_of(settings).fused
    await write(settings, topic, [("k", fused_value("new", version=2)), ("k", fused_value("old"))])
    async with FusedConsumer(settings, ensemble_name, from_beginning=True) as consumer:
        with pytest.raises(RecordError, match=rf"{topic}-\d at offset 0: .*version"):
            await take(consumer, 1)
        assert [record.request_id for record in await take(consumer, 1)] == ["old"]


async def test_records_of_an_aborted_transaction_are_never_seen(
    settings: config.Settings, ensemble_name: str
) -> None:
    topic = topics_of(settings).fused
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka.bootstrap_servers, transactional_id=f"{ensemble_name}-t"
    )
    async with producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, fused_value("aborted"), b"k")
        await producer.abort_transaction()
    await write(settings, topic, [("k", fused_value("committed"))])
    async with FusedConsumer(settings, ensemble_name, from_beginning=True) as consumer:
        assert [record.request_id for record in await take(consumer, 1)] == ["committed"]
