"""FusedConsumer reads columnar and single fused records mixed, and counts a columnar one by its last row."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from stream_ensemble import config
from stream_ensemble.columnar import fuseds
from stream_ensemble.columnar.fuseds import FusedBatch
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import (
    FORMAT_COLUMNS,
    HEADER_CREDIT,
    HEADER_FORMAT,
    Credit,
    CreditBlock,
    WeightsVersion,
)
from stream_ensemble.sdk import FusedConsumer, FusedRecord
from tests.integration.sdk_topics import (
    CLASSES,
    RIGHT,
    TRACE,
    committed,
    fused_value,
    topics_of,
)

WAIT_S = 30.0
P = 1
BLOCK = CreditBlock(algorithm="a", generation=0, n=0, members=("a", "b"), values="AA==")


def columnar(*ids: str) -> bytes:
    """Records of member a's answers, b being asleep."""
    n = len(ids)
    head = fuseds.shared(
        status="partial",
        cause="deadline",
        segment=None,
        members=("a",),
        topics=("t",),
        partition=P,
        classes=tuple(CLASSES),
        asleep={"b": "missing"},
        weights_version=WeightsVersion(generation=0, n=0, digest="d"),
        degraded=None,
        credit=Credit(everywhere="e"),
        config="c",
    )
    batch = FusedBatch(
        head,
        [request_id.encode() for request_id in ids],
        np.arange(n),
        np.array([RIGHT] * n),
        np.array([[RIGHT]] * n, np.float32),
        np.arange(n)[:, None],
        weights=np.ones(1),
        traces={1: TRACE.encode()},
    )
    return fuseds.pack(batch)


async def write_mixed(settings: config.Settings, form: bytes = FORMAT_COLUMNS) -> None:
    """A single record, a columnar one of three rows, and a single one, all in one partition."""
    headers = [(HEADER_FORMAT, form), (HEADER_CREDIT, fuseds.pack_blocks({"e": BLOCK}))]
    topic = topics_of(settings).fused
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
        await producer.send_and_wait(topic, fused_value("first"), b"first", partition=P)
        await producer.send_and_wait(topic, columnar("r0", "r1", "r2"), partition=P, headers=headers)
        await producer.send_and_wait(topic, fused_value("last"), b"last", partition=P)


async def take(consumer: FusedConsumer, count: int) -> list[FusedRecord]:
    async with asyncio.timeout(WAIT_S):
        return [await anext(consumer) for _ in range(count)]


async def test_both_forms_come_as_records_in_the_order_of_the_topic(
    settings: config.Settings, ensemble_name: str
) -> None:
    await write_mixed(settings)
    async with FusedConsumer(settings, ensemble_name, from_beginning=True) as consumer:
        first, r0, r1, r2, last = await take(consumer, 5)
    assert [each.request_id for each in (first, r0, r1, r2, last)] == ["first", "r0", "r1", "r2", "last"]
    places = [(each.partition, each.offset, each.row) for each in (first, r0, r1, r2, last)]
    assert places == [(P, 0, 0), (P, 1, 0), (P, 1, 1), (P, 1, 2), (P, 2, 0)]
    assert (r0.status, r0.cause, r0.label, r0.output) == ("partial", "deadline", "cat", RIGHT)
    assert (r0.asleep, r0.weights, r2.sources) == ({"b": "missing"}, {"a": 1.0}, {"a": ("t", P, 2, 0)})
    assert r0.credit == Credit(everywhere="e", blocks={"e": BLOCK})
    assert r1.credit == Credit(everywhere="e")
    assert [each.traceparent for each in (r0, r1, r2)] == [None, TRACE, None]
    assert r0.appended == r2.appended > 0


@pytest.mark.parametrize(
    ("taken", "again"),
    [(3, ["r0", "r1", "r2", "last"]), (4, ["r0", "r1", "r2", "last"]), (5, ["last"])],
    ids=["at its second row", "at its last row", "after it"],
)
async def test_a_columnar_record_comes_again_whole_until_the_loop_has_passed_its_last_row(
    settings: config.Settings, ensemble_name: str, taken: int, again: list[str]
) -> None:
    group = f"{ensemble_name}-g"
    await write_mixed(settings)
    async with FusedConsumer(settings, ensemble_name, group=group, from_beginning=True) as consumer:
        await take(consumer, taken)
    async with FusedConsumer(settings, ensemble_name, group=group) as consumer:
        assert [each.request_id for each in await take(consumer, len(again))] == again
        await consumer.commit()
    assert (await committed(settings, group, topics_of(settings).fused))[P] == 3


async def test_committing_within_a_columnar_record_does_not_pass_it(
    settings: config.Settings, ensemble_name: str
) -> None:
    group, topic = f"{ensemble_name}-g", topics_of(settings).fused
    await write_mixed(settings)
    async with FusedConsumer(settings, ensemble_name, group=group, from_beginning=True) as consumer:
        await take(consumer, 3)
        await consumer.commit()
        assert (await committed(settings, group, topic))[P] == 1
        await take(consumer, 1)
        await consumer.commit()
        assert (await committed(settings, group, topic))[P] == 2


async def test_a_form_of_later_is_named_and_iterating_on_skips_it(
    settings: config.Settings, ensemble_name: str
) -> None:
    await write_mixed(settings, form=b"columns-2")
    async with FusedConsumer(settings, ensemble_name, from_beginning=True) as consumer:
        await take(consumer, 1)
        with pytest.raises(RecordError, match=r"offset 1: wrong-header: .*columns-2"):
            await take(consumer, 1)
        assert [each.request_id for each in await take(consumer, 1)] == ["last"]
