"""The delivery mode "transactions" on a real broker: output and offsets are one, whatever happens."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from confluent_kafka import Producer

from stream_ensemble.cli.main import main
from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.kafka.offset_errors import OffsetsAdminClient
from stream_ensemble.settings_file import dump
from tests.integration.fuser_world import MEMBERS, PARTITIONS, Worker, World, ids, until

#: So long that a worker is as good as always in the middle of an interval.
SLOW_MS = 700


@asynccontextmanager
async def transacting(
    bootstrap: str, redis_url: str, name: str, folder: Path, interval_ms: int, **ensemble: Any
) -> AsyncIterator[World]:
    kafka = {"delivery": "transactions", "transaction_interval_ms": interval_ms}
    async with World(
        bootstrap, redis_url, name, folder, kafka=kafka, **{"deadline_ms": 30_000, **ensemble}
    ) as world:
        world.isolation_level = "read_committed"
        yield world


async def publish_slowly(world: World, requests: Sequence[str], per_tick: int = 20) -> None:
    for begin in range(0, len(requests), per_tick):
        await world.predict(requests[begin : begin + per_tick])
        await asyncio.sleep(0.02)


async def committed(world: World) -> dict[TopicPartition, int]:
    """What the fuse workers have committed of the members' topics."""
    admin = OffsetsAdminClient(bootstrap_servers=world.settings.kafka.bootstrap_servers)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(f"{world.settings.app}-fuse")
    finally:
        await admin.close()
    return {tp: at.offset for tp, at in found.items() if tp.topic in world.topics.predictions}


async def input_ends(world: World) -> dict[TopicPartition, int]:
    ends: dict[TopicPartition, int] = {}
    for topic in world.topics.predictions:
        for record in await world.standing(topic):
            tp = TopicPartition(topic, record.partition)
            ends[tp] = max(ends.get(tp, 0), record.offset + 1)
    return ends


async def until_all_is_committed(world: World) -> None:
    await until_committed(world, await input_ends(world), 30.0)


async def until_committed(world: World, ends: Mapping[TopicPartition, int], limit_s: float) -> None:
    """Until all these offsets are committed; fails when that takes longer."""
    deadline = time.monotonic() + limit_s
    while behind := {tp: end for tp, end in ends.items() if (await committed(world)).get(tp, 0) < end}:
        assert time.monotonic() < deadline, f"not committed within {limit_s:g} s: {behind}"
        await asyncio.sleep(0.02)


async def once_each(world: World, requests: Sequence[str]) -> None:
    """All of them are answered completely, and each once even after everything was read again."""
    fused = await world.fused(len(requests))
    assert set(fused) == set(requests)
    assert {record["status"] for record in fused.values()} == {"complete"}
    await until_all_is_committed(world)
    assert set((await world.answered_times()).values()) == {1}


async def places_of_answers(world: World) -> set[tuple[int, int]]:
    return {(record.partition, record.offset) for record in await world.standing(world.topics.fused)}


def it_fuses(worker: Worker, least: int = 300) -> bool:
    assert worker.process.running, worker.process.output()
    try:
        return worker.metric("stream_ensemble_requests_total", status="complete") > least
    except OSError:
        return False  # its pages are not there yet


@pytest.mark.timeout(180)
async def test_a_worker_killed_in_an_interval_loses_and_repeats_nothing(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    requests = ids("kill", 3000)
    async with transacting(kafka_bootstrap, redis_url, ensemble_name, tmp_path, SLOW_MS) as world:
        workers = [world.start()]
        await world.owning(workers[0])
        publishing = asyncio.create_task(publish_slowly(world, requests))
        for least in (300, 200):
            last = workers[-1]
            await until(lambda last=last, least=least: it_fuses(last, least), "it fuses")
            fused = last.metric("stream_ensemble_requests_total", status="complete")
            last.process.kill()
            if last is workers[0]:
                # It had answered more than it had committed: those answers were never given.
                assert len(await world.answered_times()) < fused
            workers.append(world.start())
        await publishing
        await once_each(world, requests)
        assert workers[-1].metric("stream_ensemble_ledger_difference") == 0


@pytest.mark.timeout(180)
async def test_a_worker_frozen_past_its_session_makes_nothing_visible(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    requests, more = ids("zombie", 2000), ids("after", 200)
    async with transacting(kafka_bootstrap, redis_url, ensemble_name, tmp_path, SLOW_MS) as world:
        first = world.start()
        await world.owning(first)
        publishing = asyncio.create_task(publish_slowly(world, requests))
        await until(lambda: it_fuses(first), "it fuses")
        first.process.pause()
        second = world.start()
        await world.owning(second)
        await publishing
        await once_each(world, requests)
        # The true owner stands still, so whatever is written from here on is the zombie's.
        before = await places_of_answers(world)
        offsets = await committed(world)
        second.process.pause()
        first.process.resume()
        await asyncio.sleep(3 * SLOW_MS / 1000)
        assert await places_of_answers(world) == before
        assert await committed(world) == offsets
        second.process.resume()
        await world.predict(more)
        await once_each(world, [*requests, *more])


def prefix(own: Sequence[str], visible: set[str]) -> list[str]:
    """The requests of a partition up to the first that has no answer yet."""
    place = next((place for place, request_id in enumerate(own) if request_id not in visible), len(own))
    return list(own[:place])


def sources_of(records: Sequence[ConsumerRecord]) -> dict[str, list[tuple[TopicPartition, int]]]:
    found = {}
    for record in records:
        sources = json.loads(record.value)["sources"].values()
        found[record.key.decode()] = [(TopicPartition(topic, p), offset) for topic, p, offset, _ in sources]
    return found


@pytest.mark.timeout(180)
async def test_an_answer_is_visible_when_its_offsets_are_committed_and_not_before(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    requests = ids("agree", 4000)
    of_partition: list[list[str]] = [[] for _ in range(PARTITIONS)]
    for request_id in requests:
        of_partition[partition_of(request_id.encode(), PARTITIONS)].append(request_id)
    async with transacting(kafka_bootstrap, redis_url, ensemble_name, tmp_path, 200) as world:
        worker = world.start()
        await world.owning(worker)
        publishing = asyncio.create_task(publish_slowly(world, requests))
        await until(lambda: it_fuses(worker, 100), "it fuses")
        looks = 0
        while not publishing.done():
            looks += 1
            seen = sources_of(await world.standing(world.topics.fused))
            # What can be read is committed, where nothing open stands before it: as soon as the transaction's
            # markers are in both logs ...
            read: dict[TopicPartition, int] = {}
            for own in of_partition:
                for place in (place for request_id in prefix(own, set(seen)) for place in seen[request_id]):
                    read[place[0]] = max(read.get(place[0], 0), place[1] + 1)
            await until_committed(world, read, 0.15)
            offsets = await committed(world)
            # ... and what is committed can be read.
            seen = sources_of(await world.standing(world.topics.fused))
            answered = {place for places in seen.values() for place in places}
            for tp, end in offsets.items():
                missing = [offset for offset in range(end) if (tp, offset) not in answered]
                assert not missing, f"committed over {tp} {missing[:3]}"
        assert looks >= 3
        await publishing
        await once_each(world, requests)


@pytest.mark.timeout(240)
async def test_the_mode_may_change_with_any_restart(
    kafka_bootstrap: str,
    redis_url: str,
    ensemble_name: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    requests = ids("mixed", 4000)
    async with transacting(kafka_bootstrap, redis_url, ensemble_name, tmp_path, SLOW_MS) as world:
        worker = world.start(delivery="fenced")
        await world.owning(worker)
        publishing = asyncio.create_task(publish_slowly(world, requests))
        for delivery in ("transactions", "fenced", "transactions", "fenced"):
            await until(lambda worker=worker: it_fuses(worker, 150), f"it fuses before {delivery}")
            worker.process.kill()
            worker = world.start(delivery=delivery)
        await publishing
        await once_each(world, requests)
        assert worker.metric("stream_ensemble_ledger_difference") == 0
        file = tmp_path / "audited.toml"
        file.write_text(dump(world.settings))
        code = await asyncio.to_thread(main, ["audit", "--config", str(file)])
        assert code == 0, capfd.readouterr().out


@pytest.mark.timeout(180)
async def test_workers_of_both_modes_may_run_beside_each_other(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    requests = ids("beside", 3000)
    async with transacting(kafka_bootstrap, redis_url, ensemble_name, tmp_path, SLOW_MS) as world:
        first, second = world.start(delivery="fenced"), world.start(delivery="transactions")
        await world.owning(first, second)
        publishing = asyncio.create_task(publish_slowly(world, requests))
        await until(lambda: it_fuses(second, 100), "it fuses")
        # Each takes over what the other has left in its own way, and wakes while that one writes.
        second.process.pause()
        await world.owning(first)
        second.process.resume()
        await world.owning(first, second)
        first.process.pause()
        await world.owning(second)
        first.process.resume()
        await publishing
        await once_each(world, requests)


@pytest.mark.timeout(120)
async def test_sigterm_commits_what_is_gathered_and_nothing_is_read_again(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    requests, late = ids("term", 400), ids("late", 5)
    async with transacting(
        kafka_bootstrap, redis_url, ensemble_name, tmp_path, 5000, deadline_ms=300
    ) as world:
        worker = world.start()
        await world.owning(worker)
        await world.predict(late, "ab")
        await until(lambda: worker.metric("stream_ensemble_requests_total", status="partial") == 5, "ended")
        await world.predict(late, "c")
        await world.predict(requests)
        await until(lambda: it_fuses(worker, len(requests) - 1), "all are fused")
        assert await asyncio.to_thread(worker.process.stop, 10.0) != -signal.SIGKILL
        assert await committed(world) == await input_ends(world)
        assert set(await world.answered_times()) == {*requests, *late}
        assert len(await world.standing(world.topics.late)) == len(late)


@pytest.mark.timeout(120)
async def test_what_is_moved_and_what_cannot_be_used_goes_its_way(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    requests = ids("crc", 60)
    async with transacting(kafka_bootstrap, redis_url, ensemble_name, tmp_path, 100) as world:
        worker = world.start()
        await world.owning(worker)
        client = Producer({"bootstrap.servers": kafka_bootstrap})
        for request_id in requests:
            for member, topic in zip(MEMBERS, world.topics.predictions, strict=True):
                client.produce(topic, world.prediction(request_id, member), request_id)
        client.flush(10)
        await (await world.put("a", "large", b"x" * 1_000_000))
        fused = await world.fused(len(requests))
        [(dead, header)] = await world.dead_letters(1)
        await until_all_is_committed(world)
        assert worker.metric("stream_ensemble_predictions_total", fate="forwarded") > 0
        assert worker.metric("stream_ensemble_ledger_difference") == 0
    assert {record["status"] for record in fused.values()} == {"complete"}
    assert (header["reason"], dead.key, dead.value) == ("not-json", b"large", b"x" * 1_000_000)
