"""Columnar predictions among single ones, and columnar answers, through real workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka import ConsumerRecord

from stream_ensemble.columnar.predictions import PredictionBatch, pack, pack_arrays, unpack, unpack_arrays
from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.messages import (
    FORMAT_ARRAYS,
    FORMAT_COLUMNS,
    HEADER_FORMAT,
    HEADER_FORWARDED,
    HEADER_SOURCE,
)
from stream_ensemble.sdk.fused_records import FusedRecord, fused_rows
from tests.integration.fuser_world import MEMBERS, OUTPUT, PARTITIONS, World, ids, ids_of, until
from tests.integration.shared_fuser import Shared, shared_fuser

PACK = {FORMAT_COLUMNS: pack, FORMAT_ARRAYS: pack_arrays}
UNPACK = {FORMAT_COLUMNS: unpack, FORMAT_ARRAYS: unpack_arrays}
FORMS = sorted(PACK)
OUTPUTS = {"a": [0.5, 0.25, 0.25], "b": [0.25, 0.5, 0.25], "c": [0.25, 0.25, 0.5]}


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module", params=["single", "columnar"])
def shared(
    request: pytest.FixtureRequest,
    runner: asyncio.Runner,
    kafka_bootstrap: str,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("fuser")
    with shared_fuser(
        runner, kafka_bootstrap, redis_url, folder, deadline_ms=20_000, fused_records=request.param
    ) as shared:
        yield shared


async def put(
    world: World, member: str, form: bytes, requests: Sequence[str], partition: int, **columns: Any
) -> None:
    """One columnar record with a row per request."""
    outputs = columns.pop("outputs", np.array([OUTPUTS[member]] * len(requests)))
    batch = PredictionBatch(member, [r.encode() for r in requests], outputs, **columns)
    topic = world.topics.predictions[MEMBERS.index(member)]
    await world._producer.send_and_wait(
        topic, PACK[form](batch), None, partition=partition, headers=[(HEADER_FORMAT, form)]
    )


async def put_canonical(world: World, member: str, form: bytes, requests: Sequence[str]) -> None:
    for p in range(PARTITIONS):
        own = [r for r in requests if partition_of(r.encode(), PARTITIONS) == p]
        if own:
            await put(world, member, form, own, p)


async def answers(world: World, requests: Sequence[str]) -> dict[str, FusedRecord]:
    """The answers to these requests, in whatever form, once all are there; each once."""
    wanted = set(requests)
    found: dict[str, FusedRecord] = {}
    async with world._reading(world.topics.fused) as records:
        async for record in records:
            for row in fused_rows(record):
                if row.request_id in wanted:
                    assert row.request_id not in found, f"answered twice: {row.request_id}"
                    found[row.request_id] = row
            if len(found) == len(wanted):
                return found
    raise AssertionError("unreachable")


def moved(record: ConsumerRecord, header: str) -> tuple[list[bytes], dict[str, Any]]:
    """The ids of a record on its way, and where it came from."""
    headers = dict(record.headers)
    assert record.key is None
    return UNPACK[headers[HEADER_FORMAT]](record.value).ids, json.loads(headers[header])


async def test_all_forms_meet_in_one_answer(shared: Shared) -> None:
    world, requests = shared.world, ids(f"mixed-{shared.world.topics.fused}", 40)
    before = shared.counts()
    await world.predict(requests, "a")
    await put_canonical(world, "b", FORMAT_COLUMNS, requests)
    await put_canonical(world, "c", FORMAT_ARRAYS, requests)
    found = await answers(world, requests)
    columnar = shared.world.settings.ensembles[world.settings.app].fused_records == "columnar"
    for request_id, answer in found.items():
        assert answer.status == "complete"
        assert answer.components == {"a": OUTPUT, "b": OUTPUTS["b"], "c": OUTPUTS["c"]}
        assert answer.output == pytest.approx(np.mean([OUTPUT, OUTPUTS["b"], OUTPUTS["c"]], axis=0))
        assert answer.sources["a"][3] == 0
        assert answer.partition == partition_of(request_id.encode(), PARTITIONS)
    rows = {answer.sources["b"] for answer in found.values()}
    assert len(rows) == len(requests)
    assert columnar == (max(answer.row for answer in found.values()) > 0)
    assert shared.counts() - before == {"complete": 40, "used": 120}


@pytest.mark.parametrize("form", FORMS)
async def test_misplaced_rows_are_split_out_and_moved_once(form: bytes, shared: Shared) -> None:
    world, requests = shared.world, ids(f"astray-{form.decode()}-{shared.world.topics.fused}", 40)
    before = shared.counts()
    await put(world, "a", form, requests, 0)
    await world.predict(requests, "bc")
    found = await answers(world, requests)
    assert {answer.status for answer in found.values()} == {"complete"}
    astray = [r for r in requests if partition_of(r.encode(), PARTITIONS) != 0]
    expected = {"complete": 40, "used": 120, "forwarded": len(astray)}
    assert shared.counts() - before == expected
    standing = await world.standing(world.topics.predictions[0])
    again = [record for record in standing if HEADER_FORWARDED in dict(record.headers)]
    places = {}
    for record in again:
        [request_id], origin = moved(record, HEADER_FORWARDED)
        if request_id.decode() in requests:
            assert record.partition == partition_of(request_id, PARTITIONS)
            places[origin["row"]] = request_id.decode()
    assert places == {row: r for row, r in enumerate(requests) if r in astray}
    for request_id in astray:
        assert found[request_id].sources["a"][3] == 0, "it is the only row of the record it was moved in"


@pytest.mark.parametrize("form", FORMS)
async def test_a_bad_row_is_dead_lettered_and_its_neighbours_are_used(form: bytes, shared: Shared) -> None:
    world = shared.world
    requests = ids_of(1, f"bad-{form.decode()}-{world.topics.fused}", 5)
    outputs = np.array([OUTPUTS["a"]] * 5)
    outputs[2] = [0.5, 0.5, 0.5]
    outputs[3] = [1.5, -0.5, 0.0]
    before = shared.counts()
    await put(world, "a", form, requests, 1, outputs=outputs)
    await world.predict(requests, "bc")
    whole = [requests[0], requests[1], requests[4]]
    found = await answers(world, whole)
    assert {answer.status for answer in found.values()} == {"complete"}
    dead = [
        (record, json.loads(dict(record.headers)["stream-ensemble-dead-letter"]))
        for record in await world.standing(world.topics.dead_letter)
    ]
    own = []
    for record, header in dead:
        [request_id] = UNPACK[dict(record.headers)[HEADER_FORMAT]](record.value).ids
        if request_id.decode() in requests:
            own.append((request_id.decode(), header["reason"], header["row"], header["partition"]))
    assert sorted(own) == [
        (requests[2], "not-a-distribution", 2, 1),
        (requests[3], "not-a-probability", 3, 1),
    ]
    assert shared.counts() - before == {"complete": 3, "used": 9, "dead_lettered": 2}
    assert shared.open(1) >= 2


async def test_late_rows_go_to_the_late_topic_one_by_one(shared: Shared) -> None:
    world = shared.world
    requests = ids_of(2, f"late-{world.topics.fused}", 3)
    for request_id in requests:
        await world.ask(request_id, members=["a", "c"])
    for member in "ac":
        await put(world, member, FORMAT_COLUMNS, requests, 2)
    await answers(world, requests)
    before = shared.counts()
    await put(world, "b", FORMAT_COLUMNS, requests[1:], 2)
    await until(lambda: (shared.counts() - before)["late"] == 2, "both rows were late")
    found = {}
    async with asyncio.timeout(20):
        while len(found) < 2:
            for record in await world.standing(world.topics.late):
                [request_id], source = moved(record, HEADER_SOURCE)
                if request_id.decode() in requests:
                    found[request_id.decode()] = (source["topic"], source["row"])
    topic = world.topics.predictions[1]
    assert found == {requests[1]: (topic, 0), requests[2]: (topic, 1)}


async def test_after_a_crash_columnar_answers_are_known_and_nothing_is_answered_twice(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    async with World(
        kafka_bootstrap, redis_url, ensemble_name, tmp_path, deadline_ms=20_000, fused_records="columnar"
    ) as world:
        first = world.start()
        await world.owning(first)
        requests, others = ids("r", 200), ids("s", 200)
        for member in MEMBERS:
            await put_canonical(world, member, FORMAT_COLUMNS, requests)
        await answers(world, requests)
        # Killed at once: of what was answered, most is not committed and will be read again.
        first.process.kill()
        second = world.start()
        for member in MEMBERS:
            await put_canonical(world, member, FORMAT_COLUMNS, others)
        await put_canonical(world, "a", FORMAT_ARRAYS, requests)
        await answers(world, [*requests, *others])
        await until(lambda: second.metric("stream_ensemble_predictions_total", fate="late") == 200, "late")
        assert second.metric("stream_ensemble_ledger_difference") == 0
        assert second.metric("stream_ensemble_predictions_total", fate="used") == 600
        await answers(world, [*requests, *others])
