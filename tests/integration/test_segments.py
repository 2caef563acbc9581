"""Segments with both apps as processes: weights of their own, learned once, kept whatever Redis loses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis.asyncio

from stream_ensemble import config
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.algorithm import Algorithm, Labelled
from stream_ensemble.core.learning.choose import make
from stream_ensemble.core.learning.contribution import Contribution, Vector, from_bytes
from stream_ensemble.core.learning.segment_mixture import SegmentMixture
from stream_ensemble.messages import CreditBlock
from stream_ensemble.stores.contributions import Key, Snapshot, Stored
from stream_ensemble.stores.credit_snapshot import snapshot_of
from stream_ensemble.stores.redis_contributions import RedisContributionStore
from stream_ensemble.stores.redis_keys import RedisKeys
from tests.integration.fuser_world import CLASSES, MEMBERS, Worker, World, ids
from tests.integration.weights_command import WeightsCommand

#: Who knows the answer, by segment; of the third nobody ever labels anything.
KNOWS = {"north": "a", "south": "b"}
LIMIT_S = 60.0
NORTH = Key("class", "north")


class Both:
    """An ensemble, a worker of each app, and what was labelled so far."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.labels: dict[str, str] = {}
        self.looks = 0
        self.segments: dict[str, str] = {}
        self._ensemble = world.settings.ensembles[world.settings.app]
        self.algorithm: Algorithm = make(self._ensemble.learning, self._ensemble.task, MEMBERS)
        self.mixture = SegmentMixture(self.algorithm)

    async def start(self) -> tuple[Worker, Worker]:
        fuse, learn = self.world.start(), self.world.start("learn")
        await self.world.owning(fuse, learn, partitions=2 * self._ensemble.partitions)
        return fuse, learn

    async def ask(self, segment: str, request_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Requests of a segment, answered by everybody and fused."""
        for n, request_id in enumerate(request_ids):
            truth = CLASSES[n % 3]
            self.segments[request_id] = segment
            for member in MEMBERS:
                shown = truth if member == KNOWS.get(segment) else CLASSES[(n + 1) % 3]
                output = [0.8 if name == shown else 0.1 for name in CLASSES]
                value = self.world.prediction(request_id, member, output, segment=segment)
                await self.world.put(member, request_id, value)
        fused = await self.world.fused_of(request_ids)
        return {request_id: json.loads(record.value) for request_id, record in fused.items()}

    async def label(self, request_ids: Sequence[str]) -> None:
        """Their labels, and wait until the fusers could know of them."""
        for n, request_id in enumerate(request_ids):
            self.labels[request_id] = CLASSES[n % 3]
            record = {"version": 1, "kind": "feedback", "request_id": request_id, "label": CLASSES[n % 3]}
            await self.world.write(self.world.topics.feedback, request_id, json.dumps(record).encode())

    def labelled(self, segment: str | None) -> list[str]:
        return [name for name in self.labels if segment in (None, self.segments[name])]

    async def in_redis(self, segment: str | None) -> Contribution:
        settings, name = self.world.settings, self.world.settings.app
        store = RedisContributionStore(settings.redis, RedisKeys(name, name))
        try:
            key = Key("class", segment)
            snapshot = await store.read([key])
        finally:
            await store.close()
        assert not snapshot.damaged
        return self.mixture.merge([from_bytes(s.value) for _, s in sorted(snapshot.fields[key].items())])

    async def _n(self, segment: str | None) -> int:
        return (await self.in_redis(segment)).n

    async def until_learned(self) -> None:
        """Until Redis holds every label so far, everywhere and in its segment."""
        async with asyncio.timeout(LIMIT_S):
            while [await self._n(segment) for segment in (None, *KNOWS)] != [
                len(self.labelled(segment)) for segment in (None, *KNOWS)
            ]:
                self.looks += 1
                await asyncio.sleep(0.05)

    async def recomputed(self, segment: str) -> Contribution:
        """What the labels teach a segment, from the topics alone and one by one."""
        records = [json.loads(r.value) for r in await self.world.standing(self.world.topics.fused)]
        blocks: dict[str, CreditBlock] = {}
        for record in records:
            for digest, block in ((record.get("credit") or {}).get("blocks") or {}).items():
                blocks[digest] = CreditBlock(**(block | {"members": tuple(block["members"])}))
        part = Contribution(MEMBERS)
        for record in records:
            if record["request_id"] in self.labelled(segment):
                self._learn(part, record, blocks)
                part.n += 1
        return part

    def _learn(self, part: Contribution, record: dict[str, Any], blocks: dict[str, CreditBlock]) -> None:
        digests = record["credit"]["everywhere"], record["credit"]["segment"]
        everywhere, own = (values_of(digest, blocks) for digest in digests)
        outputs = np.array([[record["components"][member] for member in MEMBERS]])
        np.testing.assert_allclose(
            record["output"],
            self.mixture.fuse(everywhere, own, outputs, np.ones((1, 3), np.bool_))[0],
            rtol=1e-12,
        )
        label = CLASSES.index(self.labels[record["request_id"]])
        labelled = Labelled(
            outputs,
            np.ones((1, 3), np.bool_),
            np.array([label]),
            np.ones(1),
            float(blocks[digests[1]].n),
        )
        self.mixture.learn(part, everywhere, own, labelled)

    async def check_against_topics(self) -> None:
        for segment in KNOWS:
            await self.check_segment(segment)

    async def check_segment(self, segment: str) -> None:
        found, expected = await self.in_redis(segment), await self.recomputed(segment)
        assert (found.n, found.clock) == (expected.n, expected.clock)
        assert found.sums.keys() == expected.sums.keys()
        for name, array in expected.sums.items():
            np.testing.assert_allclose(found.sums[name], array, rtol=1e-9, atol=1e-10, err_msg=name)

    async def empty_redis(self) -> None:
        client = redis.asyncio.Redis.from_url(self.world.settings.redis.url)
        names = [name async for name in client.scan_iter(f"{{{self.world.settings.app}:*")]
        await client.delete(*names)
        await client.aclose()


def values_of(digest: str, blocks: dict[str, CreditBlock]) -> Vector:
    return credit_block.decode(digest, blocks[digest])


@pytest.fixture(params=["ml_poly", "bank"])
def both(
    request: pytest.FixtureRequest, kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> Both:
    learning = config.Learning(algorithm=request.param, half_life=None, flush_interval_ms=50)
    return Both(World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, learning=learning))


async def teach(both: Both, rounds: int, prefix: str) -> dict[str, dict[str, Any]]:
    """Requests and labels in turn; returns the last answers of each segment."""
    last = {}
    for n in range(rounds):
        for segment in KNOWS:
            some = ids(f"{prefix}-{segment}-{n}", 20)
            last[segment] = (await both.ask(segment, some))[some[-1]]
            await both.label(some)
        await both.until_learned()
        await asyncio.sleep(0.6)  # a fuser adopts new weights in two looks at most
    return last


async def test_segments_learn_apart_from_each_other_and_survive_restart_and_an_emptied_redis(
    both: Both,
) -> None:
    async with both.world:
        fuse, learn = await both.start()
        last = await teach(both, 4, "first")
        for segment, record in last.items():
            assert record["segment"] == segment
            assert max(record["weights"], key=record["weights"].get) == KNOWS[segment], record["weights"]
            assert record["weights"][KNOWS[segment]] > 0.6
        unlabelled = (await both.ask("nowhere", ids("nowhere", 5)))["nowhere-00004"]
        assert unlabelled["credit"]["segment"]
        await both.check_against_topics()
        assert fuse.metric("stream_ensemble_segments_held") >= 3
        assert fuse.metric("stream_ensemble_segment_lookups_total", result="held") > 0

        await both.empty_redis()
        await both.until_learned()
        await both.check_against_topics()

        for worker in (fuse, learn):
            worker.process.kill()
        await both.empty_redis()
        fuse, learn = await both.start()
        await both.until_learned()
        last = await teach(both, 2, "again")
        for segment, record in last.items():
            assert record["weights"][KNOWS[segment]] > 0.6
        await both.check_against_topics()


async def test_a_fuser_without_redis_takes_segments_from_the_weights_topic(both: Both) -> None:
    async with both.world:
        fuse, learn = await both.start()
        await teach(both, 3, "first")
        for worker in (fuse, learn):
            worker.process.kill()
        alone = both.world.start(redis_url="redis://127.0.0.1:1/0")
        await both.world.owning(alone)
        record = (await both.ask("north", ["alone"]))["alone"]
        assert record["degraded"] == "redis-away"
        assert record["weights"]["a"] > 0.6


COLD_AFTER_S = 4.0


class Cold:
    """Both apps with segments that go cold soon, and what Redis has of north."""

    def __init__(self, both: Both) -> None:
        self.both = both
        self.looks = 0

    async def read(self) -> Snapshot:
        settings, name = self.both.world.settings, self.both.world.settings.app
        store = RedisContributionStore(settings.redis, RedisKeys(name, name))
        try:
            return await store.read([NORTH])
        finally:
            await store.close()

    async def until(self, there: Callable[[Snapshot], bool]) -> Snapshot:
        async with asyncio.timeout(LIMIT_S):
            while not there(snapshot := await self.read()):
                self.looks += 1
                await asyncio.sleep(0.05)
        return snapshot

    async def until_cold(self, fields: Mapping[int, Stored]) -> None:
        """Until it has left with just these orders."""
        orders = {partition: stored.order for partition, stored in fields.items()}
        snapshot = await self.until(lambda snapshot: not snapshot.fields[NORTH])
        assert snapshot.cold == {NORTH: orders}
        client = redis.asyncio.Redis.from_url(self.both.world.settings.redis.url)
        names = [name async for name in client.scan_iter(f"{{{self.both.world.settings.app}:*north")]
        await client.aclose()
        assert names == []

    async def until_back(self, n: int) -> Mapping[int, Stored]:
        """Until all of it is there, with ``n`` labels."""

        def whole(snapshot: Snapshot) -> bool:
            fields = snapshot.fields[NORTH].values()
            return not snapshot.cold and sum(from_bytes(stored.value).n for stored in fields) == n

        return (await self.until(whole)).fields[NORTH]


@pytest.fixture
def cold(kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path) -> Cold:
    learning = config.Learning(half_life=None, flush_interval_ms=50, cold_segment_s=COLD_AFTER_S)
    return Cold(Both(World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, learning=learning)))


async def test_a_cold_segment_is_back_to_the_last_bit_at_its_next_request_and_its_next_label(
    cold: Cold, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    both = cold.both
    async with both.world:
        fuse, learn = await both.start()
        answered = await both.ask("north", ids("first", 24))
        await both.label(list(answered))
        taught = await cold.until_back(24)
        assert len(taught) > 1, "several partitions"
        await cold.until_cold(taught)

        weights = WeightsCommand(both.world, tmp_path, capfd)
        listed = {key["key"]: key for key in (await weights("list", "--json")).json["keys"]}
        assert (listed["class/north"]["complete"], listed["class/north"]["cold"]) == (True, True)
        assert (listed["class"]["complete"], listed["class"]["cold"]) == (True, False)
        assert "cold" in (await weights("list")).out
        shown = await weights("show", "class/north")
        assert "class/north is cold" in shown.out
        assert "24 labels" in shown.out
        assert (await weights("diff")).code == 0
        assert (await weights("recompute")).code == 0
        assert learn.metric("stream_ensemble_segments_cold") > 0

        fuse.process.kill()
        fuse = both.world.start()
        await both.world.owning(fuse)
        first = (await both.ask("north", ["asks"]))["asks"]
        assert await cold.until_back(24) == taught
        assert fuse.metric("stream_ensemble_segments_found_cold_total") == 1
        async with asyncio.timeout(LIMIT_S):
            last = first
            while last["credit"]["segment"] == first["credit"]["segment"]:
                cold.looks += 1
                name = f"asks-{cold.looks}"
                last = (await both.ask("north", [name]))[name]
        learned = {p: (stored.order, from_bytes(stored.value)) for p, stored in taught.items()}
        assert first["credit"]["segment"] == snapshot_of(both.mixture, {}).digest
        assert last["credit"]["segment"] == snapshot_of(both.mixture, learned).digest

        await cold.until_cold(taught)
        learn.process.kill()
        await both.empty_redis()
        learn = both.world.start("learn")
        await both.world.owning(learn)
        await cold.until_cold(taught)
        await both.label(["asks"])
        again = await cold.until_back(25)
        assert sum(taught.get(p) != stored for p, stored in again.items()) == 1
        await both.check_segment("north")
