"""What becomes of labels of every kind on a real broker: learned, waiting, moved, or dead with a reason."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord

from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.kafka.chunks import EndEvidence
from tests.integration.learner_world import World, ids, names


@pytest.fixture
def world(kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path) -> World:
    return World(kafka_bootstrap, redis_url, ensemble_name, tmp_path)


def feedback(request_id: str, label: str | int = "x") -> bytes:
    record = {"version": 1, "kind": "feedback", "request_id": request_id, "label": label}
    return json.dumps(record).encode()


async def test_unreadable_labels_go_to_dead_letter_unchanged_and_the_others_are_learned(world: World) -> None:
    bad = {
        "not-json": b"{",
        "wrong-version": feedback("r").replace(b'"version": 1', b'"version": 2'),
        "missing-field": b'{"version": 1, "kind": "feedback", "request_id": "r"}',
        "wrong-field": feedback("r").replace(b'"x"', b"[1]"),
        "empty-value": b"",
        "label-out-of-range": feedback("r", 3),
        "unknown-class": feedback("r", "no such class"),
        "key-mismatch": feedback("another"),
    }
    async with world, world.owner() as owner:
        good = ids(5)
        await world.fused("r", *good)
        for value in bad.values():
            await world.write(world.topics.feedback, "r", value)
        for request_id, name in names(good):
            await world.label(request_id, name)
        await owner.catch_up()
        whole = owner.partition.standing.learned.by_segment[None]
        assert whole.n == 5
        dead = dict(await world.dead())
        assert {reason: record.value for reason, record in dead.items()} == bad
        assert all(record.key == b"r" for record in dead.values())
        header = json.loads(dict(dead["not-json"].headers)["stream-ensemble-dead-letter"])
        assert (header["topic"], header["partition"], header["offset"]) == (world.topics.feedback, 0, 0)
        assert header["detail"]
        assert owner.partition.counts["dead:not-json"] == 1


async def test_an_early_label_waits_through_a_restart_elsewhere(world: World) -> None:
    async with world:
        async with world.owner(host="A") as owner:
            await world.label("early", "y")
            await owner.catch_up()
            assert owner.partition.parked == 1
            assert [json.loads(r.value)["state"] for r in await world.read(world.topics.applied)] == [
                "parked"
            ]
            await owner.close()
        async with world.owner(host="B") as owner:
            assert owner.partition.parked == 1
            await world.fused("early")
            await owner.catch_up()
            assert await world.check_against_topics() == 1
            assert owner.partition.parked == 0


async def test_an_orphan_goes_to_dead_letter_when_the_fused_topic_moves_on(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    async with World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, orphan_horizon_s=0.05) as world:
        async with world.owner(host="A") as owner:
            await world.write(world.topics.feedback, "typo", feedback("typo"))
            await owner.catch_up()
            assert owner.partition.parked == 1
            assert await world.dead() == []
            await owner.close()
        async with world.owner(host="B") as owner:
            async with asyncio.timeout(30):
                while owner.partition.parked:
                    await world.fused(*ids(1, "moves-on"))
                    await owner.catch_up()
            ((reason, record),) = await world.dead()
            assert reason == "orphan"
            assert (record.key, record.value) == (b"typo", feedback("typo"))
            await owner.close()
        async with world.owner(host="C") as owner:
            assert owner.partition.parked == 0


async def test_a_label_after_its_horizon_goes_to_dead_letter(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    async with (
        World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, label_horizon_s=0.05) as world,
        world.owner() as owner,
    ):
        await world.fused("slow")
        async with asyncio.timeout(30):
            while not await world.dead():
                await world.label("slow", "x")
                await owner.catch_up()
        assert {reason for reason, _ in await world.dead()} == {"label-horizon"}


async def test_a_label_whose_credit_nobody_carried_goes_to_dead_letter(world: World) -> None:
    async with world, world.owner() as owner:
        await world.fused("r", carries=False)
        await world.label("r", "x")
        await owner.catch_up()
        assert [reason for reason, _ in await world.dead()] == ["credit-not-found"]
        assert owner.partition.standing.learned.by_segment == {}


async def test_answers_without_weights_teach_nothing(world: World) -> None:
    async with world, world.owner() as owner:
        await world.fused("e", status="expired", components={}, credit=None)
        await world.fused("f", status="fallback", components={"a": [0.2, 0.3, 0.5]}, credit=None)
        await world.label("e", "x")
        await world.label("f", "x")
        await owner.catch_up()
        assert owner.partition.counts["taught-nothing"] == 2
        assert owner.partition.standing.learned.by_segment == {}
        assert await world.dead() == []


async def test_unreadable_fused_records_go_to_dead_letter(world: World) -> None:
    async with world, world.owner() as owner:
        await world.write(world.topics.fused, None, b"no key", partition=0)
        await world.write(world.topics.fused, "r", b'{"credit": {"blocks": 7}}')
        await world.fused("good")
        await world.label("good", "x")
        await owner.catch_up()
        assert sorted(reason for reason, _ in await world.dead()) == ["fused-unreadable", "null-key"]
        assert await world.in_redis() != []


def _elsewhere(request_id: str, partitions: int) -> int:
    return (partition_of(request_id.encode(), partitions) + 1) % partitions


def _headers(record: ConsumerRecord) -> dict[str, bytes]:
    return dict(record.headers)


async def test_misrouted_labels_move_once_and_keep_where_they_were_first_written(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    async with World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, partitions=2) as world:
        some = ids(8)
        await world.fused(*some)
        for request_id, name in names(some):
            wrong = _elsewhere(request_id, 2)
            value = feedback(request_id, name)
            await world.write(world.topics.feedback, None, value, partition=wrong)
        async with world.owner(0) as zero, world.owner(1, host="other") as one:
            async with asyncio.timeout(30):
                while sum(part.n for part in await world.in_redis()) < 8:
                    await zero.catch_up()
                    await one.catch_up()
            moved = [r for r in await world.read(world.topics.feedback) if r.headers]
            assert len(moved) == 8
            for record in moved:
                assert partition_of(record.key, 2) == record.partition
                origin = json.loads(_headers(record)["stream-ensemble-forwarded"])
                assert origin["partition"] == 1 - record.partition
            assert await world.check_against_topics() == 8
            applied = [json.loads(r.value) for r in await world.read(world.topics.applied)]
            assert {entry["origin"][1] for entry in applied} == {0, 1}
            assert await world.dead() == []


async def test_a_forwarded_label_that_is_still_misplaced_is_not_forwarded_again(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    async with World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, partitions=2) as world:
        wrong = _elsewhere("lost", 2)
        origin = {"topic": world.topics.feedback, "partition": 0, "offset": 9, "row": 0, "appended": 5}
        headers = [("stream-ensemble-forwarded", json.dumps(origin).encode())]
        await world.write(world.topics.feedback, "lost", feedback("lost"), partition=wrong, headers=headers)
        async with world.owner(wrong) as owner:
            await owner.catch_up()
            ((reason, record),) = await world.dead()
            assert reason == "misrouted"
            assert record.value == feedback("lost")
            assert _headers(record)["stream-ensemble-forwarded"] == headers[0][1]
        assert len(await world.read(world.topics.feedback)) == 1


async def test_a_label_forwarded_twice_by_a_crash_is_learned_once(world: World) -> None:
    async with world, world.owner() as owner:
        await world.fused("r")
        (fused,) = await world.read(world.topics.fused)
        for name, offset in (("x", 1), ("y", 2), ("x", 1)):
            origin = {"topic": world.topics.feedback, "partition": 1, "offset": offset, "row": 0}
            header = json.dumps(origin | {"appended": fused.timestamp + offset}).encode()
            await world.write(
                world.topics.feedback,
                "r",
                feedback("r", name),
                headers=[("stream-ensemble-forwarded", header)],
            )
        await owner.catch_up()
        verdict = owner.store.verdict("r")
        assert verdict is not None
        assert verdict.label == "y"
        assert owner.partition.counts == {"learned": 1, "corrected": 1, "superseded": 1}


async def test_a_million_bytes_of_label_go_to_dead_letter_whole(world: World) -> None:
    async with world, world.owner() as owner:
        await world.fused("r")
        huge = b"x" * 1_000_000
        await world.write(world.topics.feedback, "r", huge)
        await world.label("r", "x")
        await owner.catch_up()
        ((reason, record),) = await world.dead()
        assert (reason, record.value) == ("not-json", huge)
        assert owner.partition.standing.learned.by_segment[None].n == 1


async def test_labels_wait_for_fused_records_that_are_behind_them(world: World) -> None:
    async with world, world.owner() as owner:
        await world.fused("r")
        await world.label("r", "x")
        assert not owner.partition.ahead(None)
        # Nothing of the fused topic is read yet, so its log time is the beginning of all time.
        await owner.read_only(world.topics.feedback)
        assert owner.partition.ahead(None)
        # Read to the end of the fused topic: there is nothing to wait for.
        assert not owner.partition.ahead(EndEvidence(asked_at=0.0, offset=0))
        await world.fused("later")
        await owner.read_only(world.topics.fused)
        assert not owner.partition.ahead(None)
        await owner.partition.flush()
        assert owner.partition.standing.learned.by_segment[None].n == 1
