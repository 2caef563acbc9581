"""``stream-ensemble audit`` on topics of real workers: balances when all is well, and finds what is not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError

from stream_ensemble.cli.main import main
from stream_ensemble.columnar import predictions
from stream_ensemble.columnar.prediction_batch import PredictionBatch
from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.messages import FORMAT_COLUMNS, HEADER_FORMAT
from stream_ensemble.settings_file import dump
from tests.integration.fuser_world import MEMBERS, PARTITIONS, World, ids, ids_of

GARBAGE = [
    b"nonsense",
    b"",
    None,
    b'{"version":1,"kind":"prediction","request_id":"g","member":"q","output":[1,0,0]}',
]


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        (found,) = json.loads(self.out)["ensembles"]
        assert json.loads(self.out)["ok"] is found["balances"] is (self.code == 0)
        return dict(found)


Command = Callable[..., Ran]


@pytest.fixture
def world(kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path) -> World:
    return World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, quorum=2, deadline_ms=600)


@pytest.fixture
def audit(world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    file = tmp_path / "audited.toml"
    file.write_text(dump(world.settings))

    def run(*arguments: str) -> Ran:
        capfd.readouterr()
        code = main(["audit", "--config", str(file), *arguments])
        return Ran(code, *capfd.readouterr())

    return run


async def audited(audit: Command, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The report once it says so; each before it must balance as well."""
    async with asyncio.timeout(60):
        while True:
            ran = await asyncio.to_thread(audit, "--json")
            assert ran.code == 0, ran.out
            if until(ran.report["counts"]):
                return ran.report
            await asyncio.sleep(0.2)


async def columnar(world: World, member: str, request_ids: list[str]) -> None:
    """One record of many rows for each partition."""
    for partition in range(PARTITIONS):
        some = [each.encode() for each in request_ids if partition_of(each.encode(), PARTITIONS) == partition]
        outputs = np.tile(np.array([0.5, 0.25, 0.25], np.float32), (len(some), 1))
        batch = PredictionBatch(member, some, outputs, np.full(len(some), int(time.time() * 1000)))
        await world._producer.send_and_wait(
            world.topics.predictions[MEMBERS.index(member)],
            predictions.pack(batch),
            partition=partition,
            headers=[(HEADER_FORMAT, FORMAT_COLUMNS)],
        )


async def label(world: World, request_id: str, name: str, partition: int | None = None, **more: Any) -> None:
    record = {"version": 1, "kind": "feedback", "request_id": request_id, "label": name} | more
    await (await world.write(world.topics.feedback, request_id, json.dumps(record).encode(), partition))


async def everything(world: World) -> None:
    """Requests that end in each way, duplicates, late ones, garbage, records on wrong partitions, labels."""
    whole, mixed, two = ids("whole", 40), ids("mixed", 24), ids("two", 12)
    await world.predict(whole)
    await world.predict(whole[:10])
    await world.predict(two, MEMBERS[:2])
    await world.predict(["one"], MEMBERS[:1])
    await world.ask("asked", deadline_ms=300)
    await columnar(world, "a", mixed)
    await world.predict(mixed, ["b"])
    for request_id in mixed:
        await world.put("c", request_id, world.prediction(request_id, "c", None, abstain=True))
    for value in GARBAGE:
        await world.put("b", "garbage", value)
    lost = ids_of(1, "lost", 6)
    for member in MEMBERS:
        for request_id in lost:
            await world.put(member, request_id, world.prediction(request_id, member), partition=3)
    for n, request_id in enumerate(whole):
        await label(world, request_id, "xyz"[n % 3])
    await label(world, whole[0], "z", revision=1)
    await label(world, whole[1], "y")
    await label(world, lost[0], "x", partition=2)
    await label(world, "nobody-asked", "x")
    await label(world, whole[2], "no such class", revision=2)
    await world.fused(len(whole) + len(mixed) + len(two) + 1 + 1 + len(lost))
    await world.predict(two, MEMBERS[2:])
    await world.late(len(two))


async def test_it_balances_whatever_came_and_while_workers_go_on(world: World, audit: Command) -> None:
    async with world:
        first, learner = world.start(), world.start("learn")
        await world.owning(first)
        await world.owning(learner)
        await everything(world)
        first.process.kill()
        second = world.start()
        more = ids("more", 30)
        await world.predict(more)
        await world.owning(second)
        report = await audited(
            audit,
            lambda counts: (
                counts.get("held", 0) == 0
                and counts.get("labels-held", 0) == 0
                and counts["requests"] == 114
                and counts["labels-learned"] == 41
            ),
        )
        counts = report["counts"]
        assert {name: counts.get(name, 0) for name in ("complete", "partial", "expired", "open")} == {
            "complete": 40 + 24 + 6 + 30,
            "partial": 12,
            "expired": 2,
            "open": 0,
        }
        again = counts["predictions"] - 389
        assert 0 <= again <= 18, "what was forwarded just before the kill is forwarded once more, and late"
        assert counts["duplicate"] + counts["late"] == 30 + 12 + again
        assert counts["late"] >= 12 + again
        assert counts["dead-lettered"] == len(GARBAGE)
        assert counts["forwarded"] == 18
        fates = ("used", "late", "duplicate", "dead-lettered", "forwarded")
        assert sum(counts[fate] for fate in fates) == counts["predictions"]
        assert counts["used"] == 40 * 3 + 24 * 3 + 12 * 2 + 1 + 6 * 3 + 30 * 3
        assert counts["sources"] == 40 * 3 + 24 * 2 + 12 * 2 + 1 + 6 * 3 + 30 * 3
        assert counts["labels"] == 40 + 5 + 1
        assert counts["labels-applied"] == 41
        assert counts["labels-superseded"] == 2
        assert counts["labels-dead-lettered"] == counts["labels-waiting"] == counts["labels-forwarded"] == 1
        words = await asyncio.to_thread(audit)
        assert (words.code, words.out.splitlines()[-1]) == (0, "The ledger balances.")
        later = await asyncio.to_thread(audit, "--since", "1h", "--json")
        assert later.report["counts"] == counts
        none = await asyncio.to_thread(audit, "--until", "2020-01-01", "--json")
        assert none.report["counts"].get("requests", 0) == 0


async def test_what_does_not_add_up_is_named(world: World, audit: Command) -> None:
    async with world:
        fuser, learner = world.start(), world.start("learn")
        await world.owning(fuser)
        await world.owning(learner)
        some = ids("r", 12)
        await world.predict(some)
        for request_id in some:
            await label(world, request_id, "x")
        await audited(
            audit,
            lambda counts: (
                counts.get("held", 0) == counts.get("labels-held", 0) == 0 and counts["labels-learned"] == 12
            ),
        )
        fuser.process.kill()
        learner.process.kill()
        records = await world.fused_of(some)
        applied = {each.key.decode(): each for each in await world.standing(world.topics.applied)}

        await (await world.write(world.topics.fused, some[0], records[some[0]].value))
        ran = await asyncio.to_thread(audit, "--json")
        assert ran.code == 1
        assert ran.report["offences"] == {"twice": 1}
        (offender,) = ran.report["offenders"]
        assert (offender["request_id"], offender["topic"]) == (some[0], world.topics.fused)
        words = (await asyncio.to_thread(audit)).out
        assert (
            "The ledger does NOT balance:\n  1 fused records beside the first one of their request" in words
        )
        assert f"    {some[0]}: {world.topics.fused} partition " in words

        await (await world.write(world.topics.applied, some[1], applied[some[1]].value))
        value = json.loads(records[some[2]].value)
        value["request_id"] = "never-asked"
        await (await world.write(world.topics.fused, "never-asked", json.dumps(value).encode()))
        await world.predict(["skipped"])
        await skip(world, "skipped")
        report = (await asyncio.to_thread(audit, "--json")).report
        assert report["offences"] == {
            "twice": 1,
            "of-nothing": 1,
            "wrong-source": 3,
            "learned-twice": 1,
            "missing": 1,
        }
        named = {(each["offence"], each.get("request_id")) for each in report["offenders"]}
        assert ("labels that were learned twice", some[1]) in named
        assert ("requests without a terminal record", "skipped") in named


async def skip(world: World, request_id: str) -> None:
    """Commit as if the fuser had dealt with a request."""
    partition = partition_of(request_id.encode(), PARTITIONS)
    parts = [TopicPartition(topic, partition) for topic in world.topics.predictions]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=world.settings.kafka.bootstrap_servers,
        group_id=f"{world.settings.app}-fuse",
        enable_auto_commit=False,
    )
    async with asyncio.timeout(60):
        await consumer.start()
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        while True:
            try:
                await consumer.commit(ends)
                break
            except CommitFailedError:  # the worker that was killed still counts as a member for a while
                await asyncio.sleep(0.2)
        await consumer.stop()


async def test_topics_that_are_missing_are_named(world: World, audit: Command) -> None:
    ran = await asyncio.to_thread(audit)
    assert (ran.code, ran.out) == (1, "")
    assert (
        f"topic {world.topics.predictions[0]} has 0 partitions, expected 4; stream-ensemble check" in ran.err
    )
