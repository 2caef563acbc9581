"""Labels and fused records as rows of records: learned, moved, parked and dead by row, on a real broker."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from aiokafka import ConsumerRecord

from stream_ensemble import config
from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.kafka.chunks import Columns, Row
from stream_ensemble.learner import partition as learner_partition
from stream_ensemble.learner.original import unpack
from stream_ensemble.learner.slices import in_slices
from stream_ensemble.messages import (
    FORMAT_ARRAYS,
    FORMAT_COLUMNS,
    HEADER_DEAD_LETTER,
    HEADER_FORMAT,
    HEADER_FORWARDED,
)
from tests.integration.learner_forms import FORMS, PARTITIONS, Dead, Place, Scenario, Topics, Worker
from tests.integration.learner_rows import (
    ALONE,
    Asked,
    Label,
    asked,
    differ,
    expected,
    fused_records,
    label_in,
    label_records,
)
from tests.integration.learner_world import World, ids

LIMIT_S = 60.0
T = TypeVar("T")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[config.Settings], Worker]]:
    """Starts a worker, killed when the test is over."""
    started: list[Worker] = []

    def start(settings: config.Settings) -> Worker:
        started.append(Worker(settings, tmp_path))
        return started[-1]

    yield start
    for worker in started:
        worker.process.kill()


async def until(done: Callable[[], Awaitable[bool]], explain: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not await done():
        assert time.monotonic() < deadline, explain()
        await asyncio.sleep(0.05)


async def in_topic(read: Callable[[], Awaitable[list[T]]], count: int) -> list[T]:
    """What a topic holds once it is ``count`` records: a commit is visible a moment after it is answered."""
    found: list[T] = []

    async def done() -> bool:
        found[:] = await read()
        return len(found) >= count

    await until(done, lambda: (count, found))
    return found


async def test_every_form_of_record_teaches_the_same_and_every_bad_row_dies_alone(
    kafka_bootstrap: str,
    redis_url: str,
    ensemble_name: str,
    start: Callable[[config.Settings], Worker],
) -> None:
    async with Topics(kafka_bootstrap, redis_url, ensemble_name).made() as topics:
        worker = start(topics.settings)
        scenario = Scenario()
        assert len(scenario.winners) == 80
        places = await asyncio.gather(*(publish(topics, form, scenario) for form in FORMS))
        for form, written in zip(FORMS, places, strict=True):
            await all_read(worker, topics.names[form], scenario.fates + 2)
            await all_learned(topics, form, scenario)
            bad = scenario.dead(written)
            records = await in_topic(partial(topics.dead, form), len(bad) + 2)
            dead = [dead_in(record) for record in records]
            damaged = "damaged" if FORMS[form].labels[0] == FORMAT_COLUMNS else "not-json"
            assert sorted(each for each in dead if isinstance(each, str)) == sorted([damaged, "misrouted"])
            assert sorted(each for each in dead if not isinstance(each, str)) == sorted(bad), form


async def publish(topics: Topics, form: str, scenario: Scenario) -> list[list[Place]]:
    """Everything of the scenario, a record that cannot be read, and one that was forwarded to the wrong
    place.
    """
    await topics.fused(form, scenario.asked)
    places = []
    for batch, (partition, rows) in enumerate(scenario.batches):
        places.append(await topics.labels(form, batch, partition, rows))
    (lost,) = label_records([scenario.winners[0]], FORMS[form].labels[0])
    damaged = lost._replace(value=(lost.value or b"")[:-1])
    await topics.write(topics.of(form).feedback, 0, damaged)
    home = partition_of(scenario.winners[0].request_id.encode(), PARTITIONS)
    origin = {"topic": topics.of(form).feedback, "partition": home, "offset": 0, "row": 9, "appended": 1}
    lost.headers.append((HEADER_FORWARDED, json.dumps(origin).encode()))
    await topics.write(topics.of(form).feedback, 1 - home, lost)
    return places


async def all_read(worker: Worker, name: str, count: int) -> None:
    """Until so many labels have had a fate; one that only waits has none yet."""

    async def done() -> bool:
        fates = await asyncio.to_thread(worker.fates, name)
        return sum(fates.values()) - fates.get("parked", 0) >= count

    await until(done, lambda: (name, count, worker.fates(name), worker.process.output()))
    fates = worker.fates(name)
    assert sum(fates.values()) - fates.get("parked", 0) == count, fates


async def all_learned(topics: Topics, form: str, scenario: Scenario) -> None:
    """Until Redis holds what the winning labels teach; all of them have been read."""
    wanted = expected(topics.algorithm(form), scenario.asked, scenario.winners)
    found = [""]

    async def done() -> bool:
        found[:] = differ(await topics.learned(form), wanted)
        return not found

    await until(done, lambda: (form, found))


def dead_in(record: ConsumerRecord) -> Dead | str:
    """A dead label with its row; of a record that could not be read, or that was lost, only the reason."""
    headers = dict(record.headers)
    header = json.loads(headers[HEADER_DEAD_LETTER])
    form = headers.get(HEADER_FORMAT, ALONE)
    assert (record.key is None) == (form != ALONE)
    if header["reason"] in ("misrouted", "damaged", "not-json"):
        assert (HEADER_FORWARDED in headers) == (header["reason"] == "misrouted")
        return str(header["reason"])
    place = Place(header["partition"], header["offset"], header.get("row", 0))
    return Dead(header["reason"], place, label_in(record.value, form))


# --- one owner, without a worker ----------------------------------------------------------------------


@pytest.fixture
def world(kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path) -> World:
    return World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, orphan_horizon_s=0.05)


@pytest.fixture
def patient(kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path) -> World:
    """One whose labels wait long enough for another owner to come."""
    return World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, orphan_horizon_s=5.0)


async def write(world: World, topic: str, record: Row) -> None:
    key = None if record.key is None else record.key.decode()
    await world.write(topic, key, record.value, partition=0, headers=record.headers)


async def write_fused(world: World, some: Sequence[Asked]) -> None:
    for _, record in fused_records(some, columns=True, partitions=1):
        await write(world, world.topics.fused, record)


async def test_a_new_owner_knows_the_rows_of_columnar_fused_records_and_the_blocks_they_carried(
    world: World,
) -> None:
    some = asked(ids(30))
    labels = [Label(each.request_id, n % 3) for n, each in enumerate(some)]
    async with world:
        async with world.owner(host="A") as owner:
            await write_fused(world, some)
            for record in label_records(labels[:10], FORMAT_COLUMNS):
                await write(world, world.topics.feedback, record)
            await owner.catch_up()
            assert owner.partition.standing.learned.by_segment[None].n == 10
            await owner.close()
        async with world.owner(host="B") as owner:
            for record in label_records(labels[10:], FORMAT_ARRAYS):
                await write(world, world.topics.feedback, record)
            await owner.catch_up()
            found = owner.partition.standing.learned.by_segment[None]
            assert differ(found, expected(world.ensemble().algorithm, some, labels)) == []
            assert owner.partition.counts == {"learned": 20}


@pytest.mark.parametrize("form", [FORMAT_COLUMNS, FORMAT_ARRAYS], ids=["columns", "arrays"])
async def test_a_row_that_waits_is_kept_alone_and_dies_alone_or_is_learned(
    patient: World, form: bytes
) -> None:
    late = asked(ids(1))
    early = [Label(name, 1) for name in [late[0].request_id, *ids(49, "typo")]]
    async with patient:
        (record,) = label_records(early, form)
        async with patient.owner(host="A") as owner:
            await write(patient, patient.topics.feedback, record)
            await owner.catch_up()
            assert owner.partition.parked == 50
            waiting = await in_topic(partial(patient.read, patient.topics.applied), 50)
            kept = [unpack(record.headers[0][1]).value for record in waiting]
            assert [label_in(value, form) for value in kept] == early
            await owner.close()
        async with patient.owner(host="B") as owner:
            await write_fused(patient, late)
            await owner.catch_up()
            async with asyncio.timeout(60):
                while owner.partition.parked:
                    await patient.fused(*ids(1, "moves-on"))
                    await owner.catch_up()
            assert owner.partition.standing.learned.by_segment[None].n == 1
        dead = [dead_in(record) for _, record in await in_topic(patient.dead, 49)]
        rows = [Dead("orphan", Place(0, 0, row), label) for row, label in enumerate(early)]
        assert sorted(dead) == sorted(rows[1:])


async def test_a_chunk_of_more_rows_than_a_flush_takes_is_taken_in_parts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[int] = []

    def small_parts(columns: Columns, end: int) -> Iterator[tuple[Columns, int]]:
        found = list(in_slices(columns, end, slice_bytes=1))
        parts.append(len(found))
        return iter(found)

    monkeypatch.setattr(learner_partition, "in_slices", small_parts)
    monkeypatch.setattr(learner_partition, "_MOST_LABELS", 10)
    some = asked(ids(60))
    labels = [Label(each.request_id, n % 3) for n, each in enumerate(some)]
    async with world, world.owner() as owner:
        await write_fused(world, some)
        await owner.catch_up()
        for begin in range(0, 60, 20):
            for record in label_records(labels[begin : begin + 20], FORMAT_COLUMNS):
                await write(world, world.topics.feedback, record)
        parts.clear()
        await owner.catch_up(flush=False)
        assert max(parts) > 1
        assert owner.partition.standing.learned.by_segment[None].n == 40
        await owner.partition.flush()
        found = owner.partition.standing.learned.by_segment[None]
        assert differ(found, expected(world.ensemble().algorithm, some, labels)) == []
