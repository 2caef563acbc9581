"""A fuser's weights: fresh while Redis is there, never lost or going back when it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import numpy as np

from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.contribution import Contribution, to_bytes
from stream_ensemble.core.learning.control import NOTHING, applied
from stream_ensemble.core.learning.membership import Membership
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.messages import Control
from stream_ensemble.stores.contributions import Change, Key, Marker, Order, Stored
from stream_ensemble.stores.control_state import CONTROLS, encode_state
from stream_ensemble.stores.memory_contributions import MemoryContributionStore
from stream_ensemble.stores.weights_view import WeightsView

MEMBERS = ("a", "b")
WHOLE = Key("class")
ALGORITHM = MLPoly(MEMBERS)


def part(regret_a: float, n: int = 1) -> bytes:
    sums = {"R": np.array([regret_a, 1.0]), "V": np.array([1.0, 1.0])}
    return to_bytes(Contribution(MEMBERS, sums, {"B": np.array([1.0, 1.0])}, n, float(n)))


class World:
    """Two owners' Redis in memory, and a view of it."""

    def __init__(self, log: Iterable[tuple[Key, int, Stored]] | None = None) -> None:
        self.store = MemoryContributionStore()
        self.now = 0.0
        self.log_reads = 0
        self.log = log
        self.view = WeightsView(
            self.store,
            ALGORITHM,
            task="class",
            partitions=2,
            read_log=self._read_log,
            poll_interval_s=0.01,
            clock=lambda: self.now,
        )

    async def _read_log(self) -> Iterable[tuple[Key, int, Stored]]:
        self.log_reads += 1
        if self.log is None:
            raise ServerUnavailableError("no Kafka")
        return self.log

    async def publish(self, partition: int, sequence: int, value: bytes, *, generation: int = 0) -> None:
        order = Order(generation, 1, sequence)
        await self.store.publish(partition, [Change(WHOLE, order, value)])
        await self.store.mark(partition, Marker(order, complete=True))

    async def complete(self, *partitions: int) -> None:
        for partition in partitions:
            await self.store.mark(partition, Marker(Order(0, 0, 0), complete=True))

    @property
    def n(self) -> int:
        return self.view.current().version.n


async def test_pools_what_all_owners_published() -> None:
    world = World()
    await world.publish(0, 1, part(3.0, n=10))
    await world.publish(1, 1, part(1.0, n=5))
    await world.view.start()
    snapshot = world.view.current()
    assert world.view.degraded is None
    assert (snapshot.version.generation, snapshot.version.n) == (0, 15)
    assert snapshot.block.n == 15
    assert snapshot.values[0] > snapshot.values[1]
    assert (credit_block.decode(snapshot.digest, snapshot.block) == snapshot.values).all()
    await world.view.stop()


async def test_before_anything_was_learned_everyone_weighs_the_same() -> None:
    world = World()
    await world.complete(0, 1)
    await world.view.start()
    snapshot = world.view.current()
    assert world.view.degraded is None
    assert world.log_reads == 0
    assert ALGORITHM.pool(snapshot.values, np.ones((1, 2), np.bool_)).tolist() == [[0.5, 0.5]]
    await world.view.stop()


async def test_new_weights_are_adopted_without_being_asked() -> None:
    world = World()
    await world.complete(0, 1)
    await world.view.start()
    before = world.view.current()
    await world.publish(1, 1, part(2.0))
    async with asyncio.timeout(10):
        while world.view.current() is before:
            world.now += 1.0
            await asyncio.sleep(0.001)
    assert world.n == 1
    assert world.view.current().version.digest != before.version.digest
    await world.view.stop()


async def test_the_snapshot_stays_the_same_object_until_something_changes() -> None:
    world = World()
    await world.publish(0, 1, part(3.0))
    await world.publish(1, 1, part(3.0))
    await world.view.refresh()
    snapshot = world.view.current()
    await world.view.refresh()
    assert world.view.current() is snapshot


async def test_redis_away_at_start_falls_back_to_the_weights_topic_and_says_so() -> None:
    world = World(log=[(WHOLE, 1, Stored(Order(0, 1, 4), part(2.0, n=7)))])
    world.store.available = False
    await world.view.start()
    assert world.n == 7
    assert world.view.degraded == "redis-away"
    assert world.view.detail
    await world.view.stop()


async def test_redis_and_kafka_away_at_start_is_no_error() -> None:
    world = World()
    world.store.available = False
    await world.view.start()
    assert world.n == 0
    assert world.view.degraded == "redis-away"
    await world.view.stop()


async def test_redis_away_in_mid_run_keeps_the_weights_and_recovers() -> None:
    world = World()
    await world.publish(0, 1, part(3.0, n=10))
    await world.complete(1)
    await world.view.refresh()
    world.store.available = False
    await world.view.refresh()
    assert world.n == 10
    assert world.view.degraded == "redis-away"
    world.store.available = True
    await world.publish(0, 2, part(3.0, n=11))
    await world.view.refresh()
    assert world.n == 11
    assert world.view.degraded is None


async def test_an_emptied_redis_takes_nothing_back() -> None:
    world = World()
    await world.publish(0, 5, part(3.0, n=10))
    await world.publish(1, 5, part(3.0, n=10))
    await world.view.refresh()
    world.store.flush_all()
    await world.view.refresh()
    assert world.n == 20
    assert world.view.degraded is None
    world.now += 60
    await world.view.refresh()
    assert world.view.degraded == "redis-incomplete"
    assert world.view.detail is not None
    assert "[0, 1]" in world.view.detail


async def test_an_older_replica_takes_nothing_back() -> None:
    world = World()
    await world.complete(1)
    await world.publish(0, 1, part(3.0, n=1))
    older = {key: dict(fields) for key, fields in world.store.hashes.items()}
    await world.publish(0, 2, part(3.0, n=2))
    await world.view.refresh()
    world.store.hashes = older
    await world.view.refresh()
    assert world.n == 2


async def test_a_start_while_one_of_two_owners_has_rewritten_takes_the_rest_from_the_topic() -> None:
    world = World(
        log=[
            (WHOLE, 0, Stored(Order(0, 1, 1), part(1.0, n=3))),
            (WHOLE, 1, Stored(Order(0, 1, 1), part(1.0, n=4))),
        ]
    )
    await world.publish(0, 2, part(1.0, n=5))
    await world.view.start()
    assert world.n == 9
    await world.view.stop()


async def test_a_start_without_the_others_word_says_that_weights_are_incomplete() -> None:
    world = World()
    await world.publish(0, 2, part(1.0, n=5))
    await world.view.start()
    assert world.log_reads == 1
    assert world.n == 5
    assert world.view.degraded == "redis-incomplete"
    await world.view.stop()


async def test_damaged_weights_are_refused_the_last_sound_ones_used_and_it_is_said() -> None:
    world = World()
    await world.publish(0, 1, part(3.0, n=10))
    await world.publish(1, 1, part(3.0, n=10))
    await world.view.refresh()
    for damage in (b"", b"\x00" * 90):
        world.store.hashes[WHOLE][1] = damage
        await world.publish(0, 2, part(3.0, n=11))
        await world.view.refresh()
        assert world.n == 21
        assert world.view.degraded == "redis-damaged"
    await world.publish(1, 2, part(3.0, n=12))
    world.store.hashes[WHOLE].pop(1)
    await world.publish(1, 3, part(3.0, n=12))
    await world.view.refresh()
    assert world.n == 23
    assert world.view.degraded is None


async def test_a_contribution_that_cannot_be_decoded_leaves_the_one_before() -> None:
    world = World()
    await world.complete(1)
    await world.publish(0, 1, part(3.0, n=10))
    await world.view.refresh()
    await world.publish(0, 2, b"\x00short")
    await world.view.refresh()
    assert world.n == 10
    assert world.view.degraded == "redis-damaged"


async def test_after_a_reset_contributions_of_the_older_generation_count_nothing() -> None:
    world = World()
    await world.publish(0, 9, part(3.0, n=100))
    await world.publish(1, 1, part(3.0, n=2), generation=1)
    await world.view.refresh()
    version = world.view.current().version
    assert (version.generation, version.n) == (1, 2)
    assert world.view.current().block.generation == 1


async def test_adopts_at_most_once_per_interval_however_often_it_is_hinted() -> None:
    world = World()
    await world.complete(0, 1)
    await world.view.start()
    seen = {world.view.current().version.digest}
    world.now = 100.0
    began = asyncio.get_running_loop().time()
    for sequence in range(1, 30):
        await world.publish(0, sequence, part(1.0, n=sequence))
        await asyncio.sleep(0.002)
        seen.add(world.view.current().version.digest)
    intervals = (asyncio.get_running_loop().time() - began) / 0.01
    # The view's clock stands still, so after each adoption it waits for a whole interval.
    assert 1 < len(seen) <= 2 + intervals
    await world.view.stop()


async def test_who_is_admitted_and_how_warm_follows_control_states_and_labels() -> None:
    store = MemoryContributionStore()
    view = WeightsView(store, MLPoly(("a", "b", "s")), task="class", partitions=2, shadows=1)
    for partition in range(2):
        await store.mark(partition, Marker(Order(0, 0, 0), complete=True))
    await view.refresh()
    assert view.current().membership in (None, Membership(0b011))
    admit = Control(
        version=1, kind="control", number=1, id="x", action="admit", member="s", share=0.2, labels=100.0
    )
    states = [encode_state(applied(NOTHING, admit)), encode_state(NOTHING)]
    # One owner has applied it: that is enough, and which of the two counts the labels makes no difference.
    for partition, (state, labels) in enumerate(zip(states, (10.0, 40.0), strict=True)):
        members = ("s", "a") if partition else ("a", "b", "s")
        counted = np.array([labels if name == "s" else 0.0 for name in members])
        part = Contribution(members, {"R": np.ones(len(members)), "warm/labels": counted}, {}, 1, 1.0)
        order = Order(0, 1, 1)
        await store.publish(partition, [Change(WHOLE, order, to_bytes(part)), Change(CONTROLS, order, state)])
        await store.mark(partition, Marker(order, complete=True))
    await view.refresh()
    membership = view.current().membership
    assert membership is not None
    assert membership.awaited == 0b111
    np.testing.assert_allclose(membership.shares, (0.0, 0.0, 0.1))
