"""Weights on a real Redis Cluster: nodes die, hang, are replaced and fail over, slots move; nobody helps."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from redis.crc import key_slot

from stream_ensemble import config
from stream_ensemble.core.learning.contribution import Contribution, to_bytes
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.learner.publisher import WeightsPublisher
from stream_ensemble.stores import background
from stream_ensemble.stores.contributions import Change, Key, Marker, Order, Stored
from stream_ensemble.stores.redis_contributions import RedisContributionStore
from stream_ensemble.stores.redis_keys import CLUSTER_SHARDS, RedisKeys
from stream_ensemble.stores.weights_view import WeightsView
from tests.redis_cluster import ClusterNode, RedisCluster

MEMBERS = ("a", "b")
WHOLE = Key("class")
KEYS = [WHOLE, *(Key("class", f"segment {n}") for n in range(24))]
PARTITIONS = 3
LIMIT_S = 30.0


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    """A cluster that only this test harms."""
    with RedisCluster() as cluster:
        yield cluster


class Published:
    """The owners of three partitions with weights of 25 keys each, and a fuser's view of them."""

    def __init__(self, url: str, name: str) -> None:
        self.server = config.Redis(url=url, timeout_s=0.5)
        self.keys = RedisKeys("test", name)
        self.spread = self.keys.spread(CLUSTER_SHARDS)
        self.store = self.open()
        self.owners = [
            WeightsPublisher(self.open(), p, on_overtaken=self._overtaken, check_interval_s=0.1)
            for p in range(PARTITIONS)
        ]
        self.view = WeightsView(
            self.open(), MLPoly(MEMBERS), task="class", partitions=PARTITIONS, poll_interval_s=0.05
        )
        self._sequence = 0

    def open(self) -> RedisContributionStore:
        return RedisContributionStore(self.server, self.keys)

    def learn(self) -> None:
        """Every owner has learned one more label in each key."""
        self._sequence += 1
        order = Order(0, 1, self._sequence)
        for partition, owner in enumerate(self.owners):
            values = {"R": np.array([1.0 + partition, self._sequence]), "V": np.ones(2)}
            part = Contribution(MEMBERS, values, {"B": np.ones(2)}, self._sequence, float(self._sequence))
            owner.offer([Change(key, order, to_bytes(part)) for key in KEYS], order)

    def has_all(self) -> bool:
        return self.view.degraded is None and self.view.current().version.n == PARTITIONS * self._sequence

    async def stored(self) -> dict[Key, dict[int, Stored]]:
        snapshot = await self.store.read(KEYS)
        assert not snapshot.damaged
        return {key: dict(fields) for key, fields in snapshot.fields.items()}

    def _overtaken(self, order: Order) -> None:
        raise AssertionError(f"nobody else owns a partition, yet {order} stands there")


@asynccontextmanager
async def publishing(url: str, name: str) -> AsyncIterator[Published]:
    """One label everywhere, published and seen."""
    it = Published(url, name)
    tasks = [asyncio.create_task(owner.run()) for owner in it.owners]
    await it.view.start()
    try:
        it.learn()
        await until(it.has_all)
        yield it
    finally:
        await background.end(tasks)
        await it.view.stop()
        await it.store.close()
        for owner in it.owners:
            await owner._store.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def until_as_before(it: Published, before: dict[Key, dict[int, Stored]]) -> None:
    """Every field stands in Redis as it did, and the fuser has no complaint."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                if await it.stored() == before and it.view.degraded is None:
                    return
            except ServerUnavailableError:
                pass
            await asyncio.sleep(0.05)


def shards_by_node(cluster: RedisCluster, keys: RedisKeys) -> dict[int, list[int]]:
    """The shards each port serves."""
    shards: dict[int, list[int]] = {}
    for shard in range(CLUSTER_SHARDS):
        port = cluster.serving(key_slot(keys.markers(shard).encode())).port
        shards.setdefault(port, []).append(shard)
    return shards


def widely_spread(cluster: RedisCluster) -> str:
    """A name of an ensemble whose shards are on all nodes, and whose whole weights are on the second."""
    for _ in range(1000):
        name = uuid.uuid4().hex
        keys = RedisKeys("test", name, CLUSTER_SHARDS)
        held = {
            place
            for shard in range(CLUSTER_SHARDS)
            for place in range(3)
            if key_slot(keys.markers(shard).encode()) in cluster.slots(place)
        }
        if held == {0, 1, 2} and key_slot(keys.weights(WHOLE).encode()) in cluster.slots(1):
            return name
    raise AssertionError("no such name")


def on_another_node(cluster: RedisCluster) -> str:
    """A name whose keys, were Redis a single server, belong on another node than the first."""
    names = (uuid.uuid4().hex for _ in range(1000))
    return next(
        name for name in names if key_slot(RedisKeys("test", name).markers().encode()) not in cluster.slots(0)
    )


async def test_keys_are_on_every_node_and_each_with_its_markers_in_one_slot(
    redis_cluster: RedisCluster,
) -> None:
    name = widely_spread(redis_cluster)
    async with publishing(redis_cluster.url, name) as it:
        for key in KEYS:
            markers = it.spread.markers(it.spread.shard(key))
            assert key_slot(it.spread.weights(key).encode()) == key_slot(markers.encode())
        for port, shards in shards_by_node(redis_cluster, it.spread).items():
            (node,) = [node for node in redis_cluster.nodes if node.port == port]
            held = {raw.decode() for raw in node.ask("KEYS", f"*test:{name}:*")}
            assert {it.spread.markers(shard) for shard in shards} <= held
            assert held > {it.spread.markers(shard) for shard in shards}, "weights too"
        assert len(shards_by_node(redis_cluster, it.spread)) == 3
        assert all(len(fields) == PARTITIONS for fields in (await it.stored()).values())


def restarted(cluster: RedisCluster, node: ClusterNode) -> None:
    """The same node again, without its data."""
    node.start()
    cluster.until_ok()
    assert node.ask("DBSIZE") <= CLUSTER_SHARDS + len(KEYS)


def replaced(cluster: RedisCluster, node: ClusterNode) -> None:
    """Another node in its place, empty."""
    cluster.replace(node)


@pytest.mark.parametrize("comes_back", [restarted, replaced])
async def test_a_node_that_dies_and_comes_back_empty_has_the_same_weights_by_itself(
    cluster: RedisCluster, comes_back: Callable[[RedisCluster, ClusterNode], None]
) -> None:
    async with publishing(cluster.url, widely_spread(cluster)) as it:
        before = await it.stored()
        node = cluster.nodes[1]
        node.kill()
        await until(lambda: it.view.degraded == "redis-away")
        assert it.view.current().version.n == PARTITIONS, "fuses on with what it has"
        await until(lambda: all(owner.degraded for owner in it.owners))
        await asyncio.to_thread(comes_back, cluster, node)
        await until_as_before(it, before)
        it.learn()
        await until(it.has_all)


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_a_replica_takes_over_and_all_goes_on_by_itself(cluster: RedisCluster, how: str) -> None:
    await asyncio.to_thread(cluster.add, cluster.nodes[1])
    async with publishing(cluster.url, widely_spread(cluster)) as it:
        before = await it.stored()
        getattr(cluster.nodes[1], how)()
        await until(lambda: it.view.degraded == "redis-away")
        it.learn()
        await until(it.has_all)
        assert (await it.stored()).keys() == before.keys()
        if how == "pause":
            cluster.nodes[1].resume()
            await asyncio.to_thread(cluster.until_ok)
        it.learn()
        await until(it.has_all)


async def test_a_replica_that_knows_less_is_brought_up_to_date(cluster: RedisCluster) -> None:
    replica = await asyncio.to_thread(cluster.add, cluster.nodes[1])
    async with publishing(cluster.url, widely_spread(cluster)) as it:
        replica.pause()
        it.learn()
        await until(it.has_all)
        before = await it.stored()
        cluster.nodes[1].kill()
        replica.resume()
        await asyncio.to_thread(lambda: replica.ask("CLUSTER FAILOVER", "TAKEOVER"))
        await until_as_before(it, before)
        await until(it.has_all)


async def test_a_slot_on_its_way_is_written_and_read_and_nothing_is_lost(redis_cluster: RedisCluster) -> None:
    keys = RedisKeys("test", widely_spread(redis_cluster))
    spread = keys.spread(CLUSTER_SHARDS)
    store = RedisContributionStore(config.Redis(url=redis_cluster.url), keys)
    shard = spread.shard(WHOLE)
    beside = next(key for key in KEYS[1:] if spread.shard(key) == shard)
    new = next(key for n in range(999) if spread.shard(key := Key("class", f"new {n}")) == shard)
    slot = key_slot(spread.weights(WHOLE).encode())
    source, target = redis_cluster.serving(slot), redis_cluster.nodes[2]
    assert source is not target

    def state(sequence: int) -> list[Change]:
        return [Change(key, Order(0, 1, sequence), b"%d" % sequence) for key in (WHOLE, beside, new)]

    assert await store.publish(0, state(1)[:2]) == [True, True]
    assert await store.mark(0, Marker(Order(0, 1, 1), complete=True)) == "written"
    with redis_cluster.moving(slot, target) as move:
        move(spread.weights(WHOLE).encode())
        assert await store.publish(0, state(2)[:1]) == [True], "what has moved is written where it is now"
        # A segment's script needs its mark too; which of them have moved, the nodes only know at the end.
        with pytest.raises(ServerUnavailableError, match="moving between nodes"):
            await store.publish(0, state(2))
        marker = Marker(Order(0, 1, 2), complete=True)
        assert await store.mark(0, marker, after=Order(0, 1, 1)) == "written"
        with pytest.raises(ServerUnavailableError, match="moving between nodes"):
            await store.read([WHOLE, beside])
    assert redis_cluster.serving(slot) is target
    assert (await store.own(0, [WHOLE, beside])).fields[WHOLE][0].value == b"2"
    assert await store.publish(0, state(2)) == [True, True, True], "kept until then, as by its owner"
    snapshot = await store.read([WHOLE, beside, new])
    assert [snapshot.fields[key][0].value for key in (WHOLE, beside, new)] == [b"2"] * 3
    assert snapshot.markers == {0: marker}
    assert await store.publish(0, state(3)) == [True, True, True]
    with redis_cluster.moving(slot, source):
        pass
    assert (await store.read([new])).fields[new][0].value == b"3"
    await store.close()


async def test_owners_and_fusers_live_through_moving_slots(redis_cluster: RedisCluster) -> None:
    async with publishing(redis_cluster.url, widely_spread(redis_cluster)) as it:
        for target in (redis_cluster.nodes[2], redis_cluster.nodes[0]):
            for shard in range(CLUSTER_SHARDS):
                slot = key_slot(it.spread.markers(shard).encode())
                await asyncio.to_thread(_move, redis_cluster, slot, target)
                it.learn()
                await until(it.has_all)
        stored = await it.stored()
        assert {field.order.sequence for fields in stored.values() for field in fields.values()} == {17}


def _move(cluster: RedisCluster, slot: int, target: ClusterNode) -> None:
    if cluster.serving(slot) is not target:
        with cluster.moving(slot, target):
            pass


async def test_a_marker_missing_in_one_shard_is_no_marker_and_a_larger_one_is_told(
    redis_cluster: RedisCluster,
) -> None:
    it = Published(redis_cluster.url, "one-shard")
    marker = Marker(Order(0, 1, 1), complete=True)
    await it.store.mark(0, marker)
    lost, larger = it.spread.markers(3), it.spread.markers(5)
    redis_cluster.serving(key_slot(lost.encode())).ask("DEL", lost)
    assert (await it.store.markers()).markers == {}
    assert await it.store.mark(0, Marker(Order(0, 1, 2), complete=True), after=marker.order) == "lost"
    await it.store.mark(0, Marker(Order(0, 1, 2), complete=True))
    node = redis_cluster.serving(key_slot(larger.encode()))
    node.ask("HSET", larger, 0, node.ask("HGET", larger, 0))
    other = RedisContributionStore(it.server, RedisKeys("test", "other"))
    await other.mark(0, Marker(Order(0, 9, 9), complete=True))
    name = RedisKeys("test", "other", CLUSTER_SHARDS).markers(5)
    theirs = redis_cluster.serving(key_slot(name.encode())).ask("HGET", name, 0)
    node.ask("HSET", larger, 0, theirs)
    seen = await it.store.own(0, [])
    assert seen.markers[0].order == Order(0, 1, 2)
    assert seen.largest() == Order(0, 9, 9)
    assert await it.store.mark(0, Marker(Order(0, 1, 3), complete=True)) == "overtaken"
    await other.close()
    await it.store.close()


async def test_a_new_weight_is_heard_of_through_any_node(redis_cluster: RedisCluster) -> None:
    it = Published(redis_cluster.url, "hints")
    listeners = [it.open() for _ in range(3)]
    heard = [store.changes() for store in listeners]
    first = [asyncio.ensure_future(anext(each)) for each in heard]
    async with asyncio.timeout(LIMIT_S):
        sequence = 0
        while not all(each.done() for each in first):
            sequence += 1
            await it.store.mark(1, Marker(Order(0, 1, sequence), complete=True))
            await asyncio.sleep(0.02)
    assert [each.result() for each in first] == [1, 1, 1]
    for each, store in zip(heard, listeners, strict=True):
        await each.aclose()
        await store.close()
    await it.store.close()


async def test_one_node_that_answers_is_enough_to_start_with(redis_cluster: RedisCluster) -> None:
    url = f"redis+cluster://127.0.0.1:1,{redis_cluster.nodes[2].address}"
    it = Published(url, "one-seed")
    assert await it.store.mark(0, Marker(Order(0, 1, 1), complete=True)) == "written"
    await it.store.close()


async def test_what_is_wrong_with_the_url_is_said(redis_url: str, redis_cluster: RedisCluster) -> None:
    single = Published(redis_url.replace("redis://", "redis+cluster://"), "wrong")
    with pytest.raises(ServerUnavailableError, match="is not a cluster; write redis://"):
        await single.store.markers()
    member = Published(redis_cluster.nodes[0].url, on_another_node(redis_cluster))
    with pytest.raises(ServerUnavailableError, match=r"is a node of a cluster; write redis\+cluster://"):
        await member.store.publish(0, [Change(key, Order(0, 1, 1), b"x") for key in KEYS])
    away = Published("redis+cluster://127.0.0.1:1,127.0.0.1:2", "wrong")
    with pytest.raises(ServerUnavailableError, match=r"127\.0\.0\.1:1,127\.0\.0\.1:2.*no connection"):
        await away.store.markers()
    for each in (single, member, away):
        await each.store.close()
