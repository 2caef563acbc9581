"""Redis is a view: whatever it loses, learning loses nothing and the weights come back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from redis.crc import key_slot

from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.embedded import EmbeddedRedis
from stream_ensemble.kafka.security import client_options
from stream_ensemble.settings.redis_address import is_cluster
from stream_ensemble.stores.contributions import Change, Key, Marker, Order
from stream_ensemble.stores.redis_cluster import ClusterLink
from stream_ensemble.stores.redis_keys import CLUSTER_SHARDS, RedisKeys
from stream_ensemble.stores.redis_link import Call, Link, ServerLink
from stream_ensemble.stores.weights_topic import encode_key, encode_weights, read_topic
from stream_ensemble.stores.weights_view import WeightsView, view_of
from tests.integration.learner_world import Owner, World, ids, names
from tests.redis_cluster import RedisCluster

WHOLE = Key("class")


@pytest.fixture
def world(kafka_bootstrap: str, any_redis_url: str, ensemble_name: str, tmp_path: Path) -> World:
    return World(kafka_bootstrap, any_redis_url, ensemble_name, tmp_path)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.02)


async def forget(world: World) -> None:
    """Delete all that Redis holds of the ensemble."""
    server = world.settings.redis
    keys = RedisKeys(world.name, world.name)
    link: Link = ServerLink(server)
    if is_cluster(server.url):
        keys, link = keys.spread(CLUSTER_SHARDS), ClusterLink(server)
    names = [keys.weights(WHOLE), *map(keys.markers, range(keys.shards))]
    assert all(await link.run([Call(name, ("DEL", name)) for name in names]))
    await link.close()


async def label_all(world: World, some: list[str]) -> None:
    for request_id, name in names(some):
        await world.label(request_id, name)


async def test_an_idle_owner_brings_everything_back_after_redis_was_emptied(world: World) -> None:
    async with world, world.owner() as owner:
        some = ids(10)
        await world.fused(*some)
        await label_all(world, some)
        await owner.catch_up()
        assert await world.check_against_topics() == 10
        await forget(world)

        async def is_back() -> bool:
            return bool(await world.in_redis())

        await until(is_back)
        assert await world.check_against_topics() == 10


async def test_learning_goes_on_while_redis_is_away_and_nothing_is_missing_after(
    kafka_bootstrap: str, ensemble_name: str, tmp_path: Path
) -> None:
    data_dir = tmp_path / "redis"
    data_dir.mkdir()
    with EmbeddedRedis(data_dir) as server:
        world = World(kafka_bootstrap, server.url, ensemble_name, tmp_path)
        async with world, world.owner() as owner:
            some = ids(30)
            view = await _seen_of(world, owner, some, 10)
            server.kill()
            await label_all(world, some[10:20])
            await owner.catch_up()
            assert owner.partition.publisher.degraded is not None
            await until(lambda: _is(lambda: view.degraded == "redis-away"))
            assert view.current().version.n == 10
            server.start()
            await label_all(world, some[20:])
            await owner.catch_up()
            await until(lambda: _is(lambda: view.current().version.n == 30))
            await until(lambda: _is(lambda: view.degraded is None))
            assert await world.check_against_topics() == 30
            await view.stop()


async def test_a_cluster_s_node_dies_and_is_replaced_empty_and_nothing_learned_is_missing(
    kafka_bootstrap: str, ensemble_name: str, tmp_path: Path
) -> None:
    with RedisCluster() as cluster:
        world = World(kafka_bootstrap, cluster.url, ensemble_name, tmp_path)
        async with world, world.owner() as owner:
            some = ids(30)
            view = await _seen_of(world, owner, some, 10)
            place = RedisKeys(world.name, world.name, CLUSTER_SHARDS).weights(WHOLE)
            node = cluster.serving(key_slot(place.encode()))
            node.kill()
            await label_all(world, some[10:20])
            await owner.catch_up()
            await until(lambda: _is(lambda: view.degraded == "redis-away"))
            assert owner.partition.publisher.degraded is not None
            assert view.current().version.n == 10
            await asyncio.to_thread(cluster.replace, node)
            await label_all(world, some[20:])
            await owner.catch_up()
            await until(partial(_counts, view, 30))
            await until(lambda: _is(lambda: view.degraded is None))
            assert await world.check_against_topics() == 30
            await view.stop()


async def _seen_of(world: World, owner: Owner, some: list[str], labelled: int) -> WeightsView:
    """A fuser's view that has seen what the labels of the first of ``some``, all answered, have taught."""
    view = view_of(world.settings, world.name)
    await view.start()
    await world.fused(*some)
    await label_all(world, some[:labelled])
    await owner.catch_up()
    await until(partial(_counts, view, labelled))
    return view


async def _counts(view: WeightsView, n: int) -> bool:
    return view.current().version.n == n


async def _is(holds: Callable[[], bool]) -> bool:
    return holds()


async def test_a_fuser_that_starts_without_redis_has_what_was_learned(world: World) -> None:
    async with world, world.owner() as owner:
        some = ids(8)
        await world.fused(*some)
        await label_all(world, some)
        await owner.catch_up()
        present = view_of(world.settings, world.name)
        await present.start()
        nowhere = world.with_redis("redis://127.0.0.1:1/0")
        absent = view_of(nowhere, world.name)
        await absent.start()
        assert absent.degraded == "redis-away"
        assert absent.current().version == present.current().version
        assert absent.current().digest == present.current().digest
        await absent.stop()
        await present.stop()


async def test_topics_made_anew_while_redis_remembers_do_not_stop_the_learning(world: World) -> None:
    async with world:
        store = world.redis()
        remembered = Order(2, 40, 1000)
        async with world.owner() as before:
            await world.fused("old")
            await world.label("old", "x")
            await before.catch_up()
            (contribution,) = [stored.value for stored in (await store.read([WHOLE])).fields[WHOLE].values()]
        await store.publish(0, [Change(WHOLE, remembered, contribution)])
        await store.mark(0, Marker(remembered, complete=True))
        async with world.owner(host="new") as owner:
            some = ids(4)
            await world.fused(*some)
            await label_all(world, some)

            async def stands_above() -> bool:
                await owner.catch_up()
                stored = (await store.read([WHOLE])).fields[WHOLE][0]
                return stored.order > remembered

            await until(stands_above)
            assert owner.partition.standing.order.generation == 2
        await store.close()


async def test_new_weights_are_in_use_within_a_second_of_the_label(world: World) -> None:
    async with world, world.owner() as owner:
        view = view_of(world.settings, world.name)
        await view.start()
        some = ids(20)
        await world.fused(*some)
        await owner.catch_up()
        clock = asyncio.get_running_loop().time
        for n, request_id in enumerate(some[:5], start=1):
            await world.label(request_id, "x")
            labelled = clock()
            await owner.catch_up()
            await until(partial(_counts, view, n))
            assert clock() - labelled < 1.0
        await view.stop()


async def test_of_many_segments_in_the_weights_topic_those_changed_last_are_taken_whole(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    world = World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, partitions=2)
    async with world:
        written = [(0, None), (0, "a"), (0, "b"), (0, "c"), (1, "a"), (1, "c"), (1, "b"), (0, "b")]
        for sequence, (partition, segment) in enumerate(written):
            key, part = Key("class", segment), Contribution(("a", "b", "c"), n=sequence)
            value = encode_weights(key, partition, Order(0, 1, sequence), "ml_poly", part)
            await world.write(world.topics.weights, encode_key(key).decode(), value, partition=partition)
        await world.write(world.topics.weights, "no key", b"{}", partition=1)
        options = client_options(world.settings.kafka)
        found = {
            (key.segment, partition): stored.order.sequence
            for key, partition, stored in await read_topic(options, world.topics.weights, 2, 2)
        }
        assert found == {(None, 0): 0, ("c", 0): 3, ("c", 1): 5, ("b", 0): 7, ("b", 1): 6}
        everything = await read_topic(options, world.topics.weights, 2, 10)
        assert len(everything) == 7
