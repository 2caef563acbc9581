"""``faust -A stream_ensemble.fuse worker`` on a real broker: how requests end, and what ends a worker."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from confluent_kafka import Producer

from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.kafka.admin import admin_client
from stream_ensemble.messages import HEADER_FORWARDED, HEADER_SOURCE
from tests.integration.fuser_world import CLASSES, MEMBERS, OUTPUT, PARTITIONS, Worker, World, until

NO_REDIS = "redis://127.0.0.1:1/0"


def ids(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{n:05d}" for n in range(count)]


async def test_requests_end_in_each_of_their_ways(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    async with World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, quorum=2) as world:
        worker = world.start()
        await world.owning(worker)
        await world.predict(["whole"])
        await world.predict(["two"], MEMBERS[:2])
        await world.predict(["one"], MEMBERS[:1])
        await world.ask("asked", deadline_ms=300)
        sent = [await world.put("a", "asleep", world.prediction("asleep", "a"))]
        sent.append(await world.put("b", "asleep", world.prediction("asleep", "b", None, error="no memory")))
        sent.append(await world.put("c", "asleep", world.prediction("asleep", "c", None, abstain=True)))
        await asyncio.gather(*sent)
        # Nothing more is published: the clock alone decides.
        fused = await world.fused(5)
        assert worker.metric("stream_ensemble_ledger_difference") == 0
    assert fused["whole"]["status"] == "complete"
    assert fused["whole"]["output"] == pytest.approx(OUTPUT)
    assert fused["whole"]["label"] == CLASSES[0]
    assert sum(fused["whole"]["weights"].values()) == pytest.approx(1)
    assert set(fused["whole"]["sources"]) == set(MEMBERS)
    assert (fused["two"]["status"], fused["two"]["cause"]) == ("partial", "deadline")
    assert fused["two"]["asleep"] == {"c": "missing"}
    for request_id in ("one", "asked"):
        assert (fused[request_id]["status"], fused[request_id]["cause"]) == ("expired", "deadline")
        assert "output" not in fused[request_id]
    assert (fused["asleep"]["status"], fused["asleep"]["cause"]) == ("expired", "quorum")
    assert fused["asleep"]["asleep"] == {"b": "error", "c": "abstain"}


async def test_below_the_quorum_the_prior_answers(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    prior = [0.2, 0.2, 0.6]
    async with World(
        kafka_bootstrap, redis_url, ensemble_name, tmp_path, quorum=2, prior=prior, deadline_ms=300
    ) as world:
        await world.owning(world.start())
        await world.predict(["one"], MEMBERS[:1])
        fused = await world.fused(1)
    assert (fused["one"]["status"], fused["one"]["output"], fused["one"]["label"]) == ("fallback", prior, "z")
    assert "weights" not in fused["one"]


def said(request_id: str | None, **fields: Any) -> bytes:
    """A prediction with some fields replaced, or with None taken away."""
    record = {
        "version": 1,
        "kind": "prediction",
        "request_id": request_id,
        "member": "a",
        "output": [1, 0, 0],
    }
    return json.dumps(
        {name: value for name, value in (record | fields).items() if value is not None}
    ).encode()


BAD: list[tuple[str, str | None, bytes | None]] = [
    ("not-json", "k1", b"nonsense"),
    ("not-json", "k2", b"x" * 1_000_000),
    ("empty-value", "k3", b""),
    ("empty-value", "k4", None),
    ("wrong-version", "k5", said("k5", version=2)),
    ("wrong-kind", "k6", said("k6", kind="fused")),
    ("missing-field", "k7", said("k7", member=None)),
    ("missing-field", None, said(None)),
    ("wrong-field", "k8", said("k8", output=[1, "0", 0])),
    ("unknown-member", "k9", said("k9", member="q")),
    ("wrong-topic", "l1", said("l1", member="b")),
    ("not-json", "l2", said("l2", output=[float("nan"), 0, 1])),
    ("not-a-probability", "l3", said("l3", output=[-1, 1, 1])),
    ("not-a-distribution", "l4", said("l4", output=[1, 1, 0])),
    ("wrong-length", "l5", said("l5", output=[1])),
    ("not-one-answer", "l6", said("l6", output=None)),
    ("key-mismatch", "other", said("l7")),
]


async def test_what_cannot_be_read_is_dead_lettered_and_spoils_nothing(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    async with World(kafka_bootstrap, redis_url, ensemble_name, tmp_path) as world:
        worker = world.start()
        await world.owning(worker)
        good = ids("good", 2 * len(BAD))
        sent = []
        for n, (_, key, value) in enumerate(BAD):
            await world.predict(good[2 * n : 2 * n + 2])
            sent.append(await world.put("a", key, value))
        await asyncio.gather(*sent)
        fused = await world.fused(len(good))
        dead = await world.dead_letters(len(BAD))
        await until(
            lambda: worker.metric("stream_ensemble_predictions_total", fate="dead_lettered") == len(BAD),
            "all dead letters are counted",
        )
        assert worker.metric("stream_ensemble_ledger_difference") == 0
        assert worker.owned() == PARTITIONS
    assert {record["status"] for record in fused.values()} == {"complete"}
    found = {(header["reason"], record.key): record.value for record, header in dead}
    assert found == {(reason, key.encode() if key else None): value for reason, key, value in BAD}
    for _, header in dead:
        assert header["topic"] == world.topics.predictions[0]
        assert 0 <= header["partition"] < PARTITIONS and header["offset"] >= 0 and header["appended"] > 0
        assert len(header["detail"]) < 400


async def test_records_on_the_wrong_partition_are_moved_and_joined(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    requests = ids("crc", 40)
    async with World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, deadline_ms=5000) as world:
        worker = world.start()
        await world.owning(worker)
        # librdkafka's own partitioner is CRC32 of the key; member c sends no key at all.
        client = Producer({"bootstrap.servers": kafka_bootstrap})
        for request_id in requests:
            for member, topic in zip(MEMBERS, world.topics.predictions, strict=True):
                key = None if member == "c" else request_id
                client.produce(topic, world.prediction(request_id, member), key)
        client.flush(10)
        fused = await world.fused(len(requests))
        moved = worker.metric("stream_ensemble_predictions_total", fate="forwarded")
        assert worker.metric("stream_ensemble_ledger_difference") == 0
        wrong = (partition_of(requests[0].encode(), PARTITIONS) + 1) % PARTITIONS
        header = {"topic": "t", "partition": 0, "offset": 0, "row": 0, "appended": 1}
        client.produce(
            world.topics.predictions[0],
            world.prediction(requests[0], "a"),
            requests[0],
            partition=wrong,
            headers={HEADER_FORWARDED: json.dumps(header).encode()},
        )
        client.flush(10)
        [(_, refused)] = await world.dead_letters(1)
    assert {record["status"] for record in fused.values()} == {"complete"}
    assert moved > 0
    assert refused["reason"] == "misrouted"


async def test_a_second_answer_changes_nothing_and_a_late_one_is_kept_aside(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    async with World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, deadline_ms=300) as world:
        worker = world.start()
        await world.owning(worker)
        await world.predict(["r"], MEMBERS[:2])
        await world.predict(["r"], MEMBERS[:1])
        before = await world.fused(1)
        await world.predict(["r"], ["c"])
        [late] = await world.late(1)
        old = world.prediction("ancient", "a", at=1_000_000_000_000)
        await (await world.put("a", "ancient", old))
        # The late topic has two partitions: which of its records is read first is nobody's promise.
        aged = [record.value for record in await world.late(2)]
        await world.predict(["next"])
        assert set(await world.fused(2)) == {"r", "next"}
        assert worker.metric("stream_ensemble_predictions_total", fate="duplicate") == 1
        assert worker.metric("stream_ensemble_predictions_total", fate="late") == 2
        assert worker.metric("stream_ensemble_ledger_difference") == 0
    assert before["r"]["status"] == "partial"
    assert json.loads(late.value)["member"] == "c"
    assert json.loads(dict(late.headers)[HEADER_SOURCE])["topic"] == world.topics.predictions[2]
    assert sorted(aged) == sorted([late.value, old])


async def test_at_the_cap_of_open_requests_everything_still_ends(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    requests = ids("cap", 400)
    async with World(
        kafka_bootstrap, redis_url, ensemble_name, tmp_path, max_open_requests=20, deadline_ms=5000
    ) as world:
        # Member a is far ahead before the worker starts; the others follow while it runs.
        await world.predict(requests, ["a"])
        worker = world.start()
        await world.owning(worker)
        await world.predict(requests, ["b", "c"])
        fused = await world.fused(len(requests))
        assert worker.metric("stream_ensemble_open_requests") == 0
        assert worker.metric("stream_ensemble_ledger_difference") == 0
    assert {record["status"] for record in fused.values()} <= {"complete", "partial"}
    assert {record.get("cause") for record in fused.values()} <= {None, "capacity", "deadline"}


async def test_without_redis_answers_come_and_say_so(
    kafka_bootstrap: str, ensemble_name: str, tmp_path: Path
) -> None:
    async with World(kafka_bootstrap, NO_REDIS, ensemble_name, tmp_path) as world:
        worker = world.start()
        await world.owning(worker)
        await world.predict(["r"])
        fused = await world.fused(1)
        assert worker.metric("stream_ensemble_weights_degraded") == 1
        assert json.loads(worker.get("/health"))["degraded"]
    assert fused["r"]["status"] == "complete"
    assert "redis" in fused["r"]["degraded"]
    assert fused["r"]["weights"] == pytest.approx(dict.fromkeys(MEMBERS, 1 / 3))


async def publish_slowly(world: World, requests: list[str], per_tick: int = 20) -> None:
    for begin in range(0, len(requests), per_tick):
        await world.predict(requests[begin : begin + per_tick])
        await asyncio.sleep(0.02)


@pytest.mark.timeout(180)
async def test_a_worker_killed_under_load_loses_and_repeats_nothing(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    requests = ids("kill", 3000)
    async with World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, deadline_ms=30_000) as world:
        first = world.start()
        await world.owning(first)
        publishing = asyncio.create_task(publish_slowly(world, requests))
        await until(
            lambda: first.metric("stream_ensemble_requests_total", status="complete") > 300, "it fuses"
        )
        first.process.kill()
        second = world.start()
        await publishing
        fused = await world.fused(len(requests))
        assert second.process.running
        assert set(fused) == set(requests)
        assert {record["status"] for record in fused.values()} == {"complete"}
        # Long enough for every replayed input to have been looked at again.
        await until(lambda: lag_free(second), "the rest is read")
        assert set((await world.answered_times()).values()) == {1}


def completed(worker: Worker) -> float:
    return worker.metric("stream_ensemble_requests_total", status="complete")


def lag_free(worker: Worker) -> bool:
    counted = sum(
        worker.metric("stream_ensemble_predictions_total", fate=fate) for fate in ("used", "replayed", "held")
    )
    return counted > 0 and worker.metric("stream_ensemble_open_requests") == 0


@pytest.mark.timeout(180)
async def test_a_worker_frozen_past_its_session_cannot_answer_again(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    requests = ids("zombie", 3000)
    async with World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, deadline_ms=30_000) as world:
        first = world.start()
        await world.owning(first)
        publishing = asyncio.create_task(publish_slowly(world, requests))
        await until(
            lambda: first.metric("stream_ensemble_requests_total", status="complete") > 300, "it fuses"
        )
        first.process.pause()
        second = world.start()
        await world.owning(second)
        first.process.resume()
        await publishing
        fused = await world.fused(len(requests))
        assert set(fused) == set(requests)
        await world.owning(first, second)
        assert set((await world.answered_times()).values()) == {1}


@pytest.mark.timeout(180)
async def test_sigterm_finishes_commits_and_the_next_worker_repeats_nothing(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    requests = ids("term", 1500)
    async with World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, deadline_ms=30_000) as world:
        first, second = world.start(), world.start()
        await world.owning(first, second)
        publishing = asyncio.create_task(publish_slowly(world, requests))
        await until(
            lambda: first.metric("stream_ensemble_requests_total", status="complete") > 50, "it fuses"
        )
        assert await asyncio.to_thread(first.process.stop, 10.0) != -signal.SIGKILL
        await publishing
        fused = await world.fused(len(requests))
        assert {record["status"] for record in fused.values()} == {"complete"}
        await world.owning(second)
        assert second.metric("stream_ensemble_ledger_difference") == 0
        assert set((await world.answered_times()).values()) == {1}


@pytest.mark.timeout(120)
async def test_a_deployment_under_another_name_is_told_of_the_answers_it_finds(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    warning = "holds answers, but nobody has fenced it as"
    async with World(kafka_bootstrap, redis_url, ensemble_name, tmp_path) as world:
        first, requests = world.start(), ids("named", 40)
        await world.owning(first)
        await world.predict(requests)
        await world.fused(len(requests))
        first.process.stop(20)
        again, other = world.start(), world.start(deployment=f"{ensemble_name}-renamed")
        await world.owning(again)
        await world.owning(other)
        assert warning not in first.process.output(1 << 20)
        assert warning not in again.process.output(1 << 20)
        said = other.process.output(1 << 20)
        assert said.count(f"{warning} {ensemble_name}-renamed-") == PARTITIONS
        assert set((await world.answered_times()).values()) == {1}


@pytest.mark.timeout(120)
async def test_answers_larger_than_their_topic_takes_wait_until_it_takes_them(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    async with World(kafka_bootstrap, redis_url, ensemble_name, tmp_path) as world:
        requests = ids("large", 40)
        await allow(world, 100)
        worker = world.start()
        await world.owning(worker)
        await world.predict(requests)
        await until(lambda: "Raise max.message.bytes there" in worker.process.output(), "it says so")
        await allow(world, 1 << 20)
        assert set(await world.fused(len(requests))) == set(requests)
        assert worker.process.running
        assert set((await world.answered_times()).values()) == {1}


async def allow(world: World, max_bytes: int) -> None:
    """Records and batches of the fused topic may be so large."""
    async with admin_client(world.settings.kafka) as client:
        topic = ConfigResource(
            ConfigResourceType.TOPIC, world.topics.fused, configs={"max.message.bytes": str(max_bytes)}
        )
        await client.alter_configs([topic])
