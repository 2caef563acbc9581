"""Each label counts exactly once, whatever happens between any two steps of a flush."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stream_ensemble.errors import FencedError
from stream_ensemble.stores.contributions import Key
from tests.integration.learner_world import Owner, World, ids, names


class CrashError(Exception):
    """The process is gone at this point."""


@pytest.fixture
def world(kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path) -> World:
    return World(kafka_bootstrap, redis_url, ensemble_name, tmp_path)


async def test_weights_in_redis_equal_a_recomputation_from_the_topics(world: World) -> None:
    async with world, world.owner() as owner:
        some = ids(40)
        await world.fused(*some)
        for request_id, name in names(some[:30]):
            await world.label(request_id, name)
        await owner.catch_up()
        for request_id, name in names(some[20:]):
            await world.label(request_id, name, weight=2.0, revision=1)
        await world.label(some[0], 2)
        await owner.catch_up()
        assert await world.check_against_topics() == 40
        assert await world.dead() == []


def _before(target: Any, name: str) -> None:
    async def crash(*_: Any, **__: Any) -> None:
        raise CrashError

    setattr(target, name, crash)


def _after(target: Any, name: str) -> None:
    original = getattr(target, name)

    async def crash(*args: Any, **kwargs: Any) -> None:
        await original(*args, **kwargs)
        raise CrashError

    setattr(target, name, crash)


def _after_one(target: Any, name: str) -> None:
    original = getattr(target, name)

    def crash(*args: Any) -> None:
        original(*args)
        raise CrashError

    setattr(target, name, crash)


def _before_store(owner: Owner) -> None:
    def crash(*_: Any) -> None:
        raise CrashError

    owner.store.write = crash  # type: ignore[method-assign]


def _producer(owner: Owner) -> Any:
    return owner.partition._output._producer


POINTS: dict[str, Callable[[Owner], None]] = {
    "before begin": lambda owner: _before(_producer(owner), "begin_transaction"),
    "before the records": lambda owner: _before(owner.partition._output, "_write"),
    "after the first batch": lambda owner: _after_one(owner.partition._output, "_send"),
    "after the records": lambda owner: _after(owner.partition._output, "_write"),
    "before the offsets": lambda owner: _before(_producer(owner), "send_offsets_to_transaction"),
    "before the commit": lambda owner: _before(_producer(owner), "commit_transaction"),
    "after the commit": lambda owner: _after(_producer(owner), "commit_transaction"),
    "before the local store": _before_store,
    "before Redis": lambda owner: _before(owner.partition.publisher._store, "publish"),
    "before the marker": lambda owner: _before(owner.partition.publisher._store, "mark"),
}


@pytest.mark.parametrize("point", POINTS)
async def test_a_crash_between_any_two_steps_loses_and_doubles_nothing(world: World, point: str) -> None:
    async with world:
        some = ids(20)
        await world.fused(*some[:15])
        for request_id, name in names(some):
            await world.label(request_id, name)
        async with world.owner() as owner:
            await owner.catch_up()
            await world.label(some[0], "y", revision=1)
            await world.fused(*some[15:])
            POINTS[point](owner)
            with pytest.raises(CrashError):
                await owner.catch_up()
                raise AssertionError("nothing was written")
        async with world.owner() as successor:
            await successor.catch_up()
            assert await world.check_against_topics() == 20
            assert successor.partition.parked == 0
        assert await world.dead() == []


async def test_a_partition_that_moves_away_and_back_is_not_misled_by_its_old_store(world: World) -> None:
    async with world:
        some = ids(12)
        await world.fused(*some)
        async with world.owner(host="A") as first:
            for request_id, name in names(some[:4]):
                await world.label(request_id, name)
            await first.catch_up()
            await first.close()
        async with world.owner(host="B") as second:
            for request_id, name in names(some[4:8]):
                await world.label(request_id, name)
            await world.label(some[0], "z", revision=3)
            await world.label("early", "x")
            await second.catch_up()
            await second.close()
        async with world.owner(host="A") as back:
            await world.label(some[0], "y", revision=2)
            await world.fused("early")
            for request_id, name in names(some[8:]):
                await world.label(request_id, name)
            await back.catch_up()
            assert await world.check_against_topics() == 13


async def test_a_stopped_owner_that_resumes_is_refused_and_changes_nothing(world: World) -> None:
    async with world:
        some = ids(6)
        await world.fused(*some)
        async with world.owner(host="A") as stopped:
            for request_id, name in names(some[:3]):
                await world.label(request_id, name)
            await stopped.catch_up(flush=False)
            async with world.owner(host="B") as successor:
                await successor.catch_up()
                await successor.partition.publisher.publish()
                with pytest.raises(FencedError):
                    await stopped.partition.flush()
                await stopped.partition.publisher.publish()
                for request_id, name in names(some[3:]):
                    await world.label(request_id, name)
                await successor.catch_up()
                assert await world.check_against_topics() == 6


async def test_a_clean_restart_on_the_same_host_reads_only_what_is_new(world: World) -> None:
    async with world:
        some = ids(10)
        await world.fused(*some)
        async with world.owner() as owner:
            await owner.catch_up()
            await owner.close()
        async with world.owner() as again:
            position = again.store.position()
            assert position is not None
            assert position.fused >= 10
            assert again.store.answer(some[9]) is not None
            for request_id, name in names(some):
                await world.label(request_id, name)
            await again.catch_up()
            assert await world.check_against_topics() == 10


async def test_two_partitions_of_one_ensemble_pool_to_the_whole(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    async with World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, partitions=2) as world:
        some = ids(30)
        await world.fused(*some)
        for request_id, name in names(some):
            await world.label(request_id, name)
        async with world.owner(0) as zero, world.owner(1, host="other") as one:
            await zero.catch_up()
            await one.catch_up()
            assert await world.check_against_topics() == 30
            store = world.redis()
            snapshot = await store.read([Key("class")])
            await store.close()
            assert set(snapshot.markers) == set(snapshot.fields[Key("class")]) == {0, 1}
