"""Pins and resets on real servers: applied once by each owner, in force until taken back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import redis.asyncio
from aiokafka import TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete

from stream_ensemble.config import Settings
from stream_ensemble.core.learning import credit_block
from stream_ensemble.kafka.admin import admin_client
from stream_ensemble.stores.contributions import Key
from stream_ensemble.stores.control_state import CONTROLS
from stream_ensemble.stores.pinned import Pinned
from stream_ensemble.stores.redis_keys import RedisKeys
from stream_ensemble.stores.weights_view import WeightsView, view_of
from tests.integration.learner_world import MEMBERS, Owner, World, ids, names
from tests.integration.weights_command import WeightsCommand

PARTITIONS = 2
NEXT_DIGEST, NEXT_BLOCK = credit_block.encode("ml_poly", 1, 0, MEMBERS, np.array([0.0, 0.0, 0.0]))
NEXT = {"everywhere": NEXT_DIGEST, "blocks": {NEXT_DIGEST: msgspec.to_builtins(NEXT_BLOCK)}}


@pytest.fixture
def world(kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path) -> World:
    return World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, partitions=PARTITIONS)


@pytest.fixture
def weights(world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> WeightsCommand:
    return WeightsCommand(world, tmp_path, capfd)


@asynccontextmanager
async def working(world: World, host: str = "host") -> AsyncIterator[list[Owner]]:
    """Owners of all partitions that take in whatever comes."""
    async with AsyncExitStack() as stack:
        owned = [
            await stack.enter_async_context(world.owner(p, host=f"{host}{p}")) for p in range(PARTITIONS)
        ]

        async def go_on() -> None:
            while True:
                for owner in owned:
                    await owner.catch_up()
                await asyncio.sleep(0.02)

        going = asyncio.create_task(go_on())
        try:
            yield owned
        finally:
            going.cancel()
            await asyncio.wait([going])
            # What it ended with must not be lost.
            if not going.cancelled():
                going.result()


@asynccontextmanager
async def fuser(settings: Settings, name: str) -> AsyncIterator[WeightsView]:
    view = view_of(settings, name)
    await view.start()
    yield view
    await view.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if holds():
                return
            await asyncio.sleep(0.02)


def pinned(view: WeightsView, segment: str | None = None) -> Pinned | None:
    pins = view.current().pins
    return pins.of(segment) if pins else None


async def label_all(world: World, some: list[str]) -> None:
    await world.fused(*some)
    for request_id, name in names(some):
        await world.label(request_id, name)


async def test_a_pin_is_in_force_within_a_second_and_learning_goes_on_beneath(
    world: World, weights: WeightsCommand
) -> None:
    async with world, working(world), fuser(world.settings, world.name) as view:
        await label_all(world, ids(20))
        await until(lambda: view.current().version.n == 20)
        ran = await weights("pin", "--uniform", "--json")
        assert (ran.code, ran.json["applied"], ran.json["left"]) == (0, [0, 1], {})
        await until(lambda: pinned(view) is not None)
        held = pinned(view)
        assert held is not None
        assert (held.number, held.values.tolist()) == (1, [1.0, 1.0, 1.0])
        await label_all(world, ids(10, "beneath"))
        await until(lambda: view.current().version.n == 30)
        assert await world.check_against_topics() == 30
        ran = await weights("unpin")
        assert ran.code == 0
        assert f"sent to {world.name}: unpin\n" in ran.out
        assert "applied by the owners of 2 within" in ran.out
        await until(lambda: pinned(view) is None)
        again = await weights("unpin")
        assert again.code == 1
        assert "is not pinned; nothing was sent" in again.err
        assert (await weights("recompute")).code == 0


async def test_a_pin_of_what_was_kept_is_a_roll_back(
    world: World, weights: WeightsCommand, tmp_path: Path
) -> None:
    async with world, working(world), fuser(world.settings, world.name) as view:
        await label_all(world, ids(20))
        await until(lambda: view.current().version.n == 20)
        kept, before = tmp_path / "kept.json", view.current()
        kept.write_text((await weights("show", "--json")).out)
        await label_all(world, ids(20, "more"))
        await until(lambda: view.current().version.n == 40)
        assert (await weights("pin", "--from", str(kept))).code == 0
        await until(lambda: pinned(view) is not None)
        held = pinned(view)
        assert held is not None
        # To the bit, and by the algorithm itself: its floor holds for the awake members.
        assert held.values.tolist() == before.values.tolist()
        assert held.algorithm.name == "ml_poly"
        ran = await weights("pin", "current", "--json")
        assert ran.json["control"]["number"] == 2
        await until(lambda: getattr(pinned(view), "number", 0) == 2)
        held = pinned(view)
        assert held is not None
        assert held.values.tolist() == view.current().values.tolist()
        kept.write_text(json.dumps({"a": 3, "stranger": 1}))
        refused = await weights("pin", "--from", str(kept))
        assert refused.code == 2
        assert "stranger is no member" in refused.err


async def test_a_pin_survives_an_emptied_redis_and_new_owners(world: World, weights: WeightsCommand) -> None:
    async with world:
        async with working(world):
            assert (await weights("pin", "--uniform")).code == 0
            client = redis.asyncio.Redis.from_url(world.settings.redis.url)
            keys = RedisKeys(world.name, world.name)
            await client.delete(*map(keys.weights, (Key("class"), CONTROLS)), keys.markers())
            await client.aclose()
            async with fuser(world.settings, world.name) as view:
                await until(lambda: pinned(view) is not None and view.degraded is None)
        nowhere = world.with_redis("redis://127.0.0.1:1/0")
        async with fuser(nowhere, world.name) as view:
            assert view.degraded == "redis-away"
            assert pinned(view) is not None
        async with working(world, "other"):
            await label_all(world, ids(4))
            async with fuser(world.settings, world.name) as view:
                await until(lambda: view.current().version.n == 4)
                assert pinned(view) is not None
            assert (await weights("recompute")).code == 0
            assert "pinned by the operator (control record 1)" in (await weights("list")).out


async def test_a_segment_is_pinned_alone(world: World, weights: WeightsCommand) -> None:
    async with world, working(world), fuser(world.settings, world.name) as view:
        assert (await weights("pin", "--uniform", "--segment", "north")).code == 0
        await until(lambda: pinned(view, "north") is not None)
        assert pinned(view) is None
        assert pinned(view, "south") is None
        assert (await weights("unpin", "--segment", "north")).code == 0
        await until(lambda: pinned(view, "north") is None)


async def test_a_reset_forgets_all_and_labels_of_older_credit_change_nothing(
    world: World, weights: WeightsCommand
) -> None:
    async with world, working(world) as owned, fuser(world.settings, world.name) as view:
        await label_all(world, ids(20))
        on_their_way = ids(10, "late")
        await world.fused(*on_their_way)
        await until(lambda: view.current().version.n == 20)
        ran = await weights("reset", "--json")
        assert (ran.code, ran.json["applied"], ran.json["control"]["generation"]) == (0, [0, 1], 1)
        await until(lambda: view.current().version.generation == 1)
        assert view.current().version.n == 0
        assert not view.current().values.any()
        for request_id, name in names(on_their_way):
            await world.label(request_id, name)
        new = ids(8, "new")
        await world.fused(*new, credit=NEXT)
        for request_id, name in names(new):
            await world.label(request_id, name)
        await until(lambda: view.current().version.n == 8)
        await until(lambda: sum(owner.partition.counts["older-generation"] for owner in owned) == 10)
        ran = await weights("recompute", "--json")
        assert (ran.code, ran.json["n"], ran.json["generation"]) == (0, 8, 1)
        again = await weights("reset", "--json")
        assert again.json["control"]["generation"] == 2
        await until(lambda: view.current().version.generation == 2)
        assert (await weights("recompute", "--json")).json["same"] is True


async def test_a_control_record_read_again_after_a_crash_is_applied_once(
    world: World, weights: WeightsCommand
) -> None:
    async with world:
        ran = await weights("reset", "--wait", "0.1", "--json")
        assert ran.code == 1
        some = ids(6)
        await world.fused(*some, credit=NEXT)
        for request_id, name in names(some):
            await world.label(request_id, name)

        class CrashError(Exception):
            pass

        async def crash(*_: Any, **__: Any) -> None:
            raise CrashError

        for p in range(PARTITIONS):
            async with world.owner(p) as owner:
                producer: Any = owner.partition._output._producer
                producer.commit_transaction = crash
                with pytest.raises(CrashError):
                    await owner.catch_up()
        async with working(world) as owned, fuser(world.settings, world.name) as view:
            await until(lambda: view.current().version.n == 6)
            assert [owner.partition.standing.order.generation for owner in owned] == [1, 1]
            assert (await weights("recompute", "--json")).json["same"] is True


async def test_where_nobody_owns_a_partition_the_command_says_so_and_a_later_owner_applies_it(
    world: World, weights: WeightsCommand
) -> None:
    async with world:
        ran = await weights("pin", "--uniform")
        assert ran.code == 1
        assert "applied by the owners of 0 within" in ran.out
        for p in range(PARTITIONS):
            assert f"partition {p}: nobody owns it" in ran.out
        async with working(world), fuser(world.settings, world.name) as view:
            await until(lambda: pinned(view) is not None)


async def test_a_control_record_that_is_not_understood_is_dead_lettered_with_its_reason(
    world: World, weights: WeightsCommand
) -> None:
    good = {"version": 1, "kind": "control", "number": 1, "id": "x", "action": "unpin"}
    bad: dict[str, dict[str, Any]] = {
        "unknown-control": {"action": "explode"},
        "wrong-version": {"version": 2},
        "missing-field": {"action": "pin"},
        "wrong-field": {"action": "pin", "pinned": {"weights": {"a": 0}}},
        "wrong-kind": {"kind": "order"},
    }
    async with world, working(world) as owned:
        for change in bad.values():
            await world.write(world.topics.feedback, None, json.dumps(good | change).encode(), partition=1)
        some = ids(4)
        await label_all(world, some)
        await until(lambda: sum(owner.partition.counts["learned"] for owner in owned) == 4)
        dead = await world.dead()
        assert [reason for reason, _ in dead] == list(bad)
        assert [json.loads(record.value) for _, record in dead] == [good | each for each in bad.values()]
        assert owned[1].partition.standing.controls.number == 0


async def test_recompute_refuses_what_retention_took_unless_a_reset_came_after_it(
    kafka_bootstrap: str,
    redis_url: str,
    ensemble_name: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    world = World(
        kafka_bootstrap, redis_url, ensemble_name, tmp_path, partitions=PARTITIONS, orphan_horizon_s=0.2
    )
    weights = WeightsCommand(world, tmp_path, capfd)
    async with world, working(world), fuser(world.settings, world.name) as view:
        await label_all(world, ids(30))
        await until(lambda: view.current().version.n == 30)
        assert (await weights("pin", "--uniform")).code == 0
        places = [TopicPartition(world.topics.fused, 0), TopicPartition(world.topics.feedback, 0)]
        async with admin_client(world.settings.kafka) as admin:
            await admin.delete_records({tp: RecordsToDelete(before_offset=4) for tp in places})
        refused = await weights("recompute")
        assert refused.code == 1
        assert f"{world.topics.fused} partition 0 begins at offset 4" in refused.err
        await asyncio.sleep(0.3)
        assert (await weights("reset")).code == 0
        await until(lambda: view.current().version.generation == 1)
        new = ids(12, "new")
        await world.fused(*new, credit=NEXT)
        for request_id, name in names(new):
            await world.label(request_id, name)
        await until(lambda: view.current().version.n == 12)
        ran = await weights("recompute", "--json")
        assert ran.code == 0, ran
        assert (ran.json["n"], ran.json["differences"]) == (12, [])
