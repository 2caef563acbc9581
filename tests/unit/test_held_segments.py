"""What a fuser holds of segments: bounded, fresh where it is used, and never older than it was."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
import numpy as np
import pytest

from stream_ensemble import config
from stream_ensemble.core.learning.contribution import Contribution, to_bytes
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.core.learning.segment_mixture import SegmentMixture
from stream_ensemble.stores.contributions import Change, Key, Marker, Order, Stored
from stream_ensemble.stores.held_segments import HeldSegments
from stream_ensemble.stores.memory_contributions import MemoryContributionStore
from stream_ensemble.stores.weights_view import WeightsView, view_of

MEMBERS = ("a", "b")
ALGORITHM = MLPoly(MEMBERS)
NOTHING = Order(0, 0, 0)
NORTH = Key("class", "north")


def part(n: int) -> bytes:
    sums = {
        "R": np.array([3.0, 1.0]),
        "V": np.array([1.0, 1.0]),
        "top/segment/ml_poly": np.array([1.0, 2, 3, 4]),
    }
    maxima = {"B": np.array([1.0, 1.0]), "top/segment/ml_poly": np.array([1.0, 1.0])}
    return to_bytes(Contribution(MEMBERS, sums, maxima, n, float(n)))


class World:
    """Two owners' Redis in memory, and a view of it that holds three segments."""

    def __init__(self, *, segments: int = 3, log: Iterable[tuple[Key, int, Stored]] = ()) -> None:
        self.store = MemoryContributionStore()
        self.log = list(log)
        self.looks = 0
        self.view = WeightsView(
            self.store,
            ALGORITHM,
            task="class",
            partitions=2,
            read_log=self._read_log,
            poll_interval_s=0.01,
            segments=segments,
        )

    async def _read_log(self) -> Iterable[tuple[Key, int, Stored]]:
        return self.log

    async def publish(
        self, segment: str | None, partition: int, sequence: int, n: int, generation: int = 0
    ) -> None:
        order = Order(generation, 1, sequence)
        await self.store.publish(partition, [Change(Key("class", segment), order, part(n))])
        await self.complete(partition, order=order)

    async def complete(self, *partitions: int, order: Order = NOTHING) -> None:
        for partition in partitions:
            await self.store.mark(partition, Marker(order, complete=True))

    def n(self, segment: str) -> int:
        snapshot = self.view.of_segment(segment)
        assert snapshot is not None
        return snapshot.block.n

    async def until(self, segment: str, n: int) -> None:
        async with asyncio.timeout(10):
            while self.n(segment) != n:
                self.looks += 1
                await asyncio.sleep(0.001)

    async def read(self) -> None:
        await self.view.refresh()
        await self.view.refresh_segments()


async def holding_north() -> World:
    """A view that holds the segment north, of 4 labels in one partition."""
    world = World()
    await world.publish("north", 0, 1, 4)
    await world.complete(1)
    await world.view.refresh()
    world.n("north")
    await world.read()
    return world


async def test_an_unknown_segment_is_answered_at_once_as_having_learned_nothing_and_then_read() -> None:
    world = World()
    await world.publish("north", 0, 1, 4)
    await world.publish("north", 1, 1, 5)
    await world.view.start()
    assert world.n("north") == 0
    await world.until("north", 9)
    assert world.view.segments.counts["held"] >= 1
    snapshot = world.view.of_segment("north")
    assert snapshot is not None
    assert len(snapshot.values) == len(MEMBERS) + 2
    await world.view.stop()


async def test_new_weights_of_a_segment_in_use_are_adopted_without_being_asked() -> None:
    world = World()
    await world.complete(0, 1)
    await world.view.start()
    world.n("north")
    await world.publish("north", 0, 1, 7)
    await world.until("north", 7)
    await world.publish("north", 0, 2, 8)
    await world.until("north", 8)
    await world.view.stop()


async def test_a_segment_is_not_taken_for_new_while_an_owner_has_not_said_that_it_is_complete() -> None:
    world = World()
    await world.publish("north", 0, 1, 4)
    await world.view.refresh()
    world.n("north")
    assert not await world.view.refresh_segments()
    assert len(world.view.segments) == 0
    await world.complete(1)
    world.n("north")
    await world.read()
    assert world.n("north") == 4


async def test_a_segment_nobody_has_taught_is_held_too_and_so_not_asked_for_again() -> None:
    world = World()
    await world.complete(0, 1)
    await world.view.refresh()
    world.n("new")
    await world.read()
    assert (world.n("new"), len(world.view.segments), world.view.segments.wanted) == (0, 1, 0)


async def test_an_emptied_redis_and_an_older_replica_take_nothing_back() -> None:
    world = World()
    await world.publish("north", 0, 5, 4)
    await world.publish("north", 1, 5, 5)
    await world.view.refresh()
    world.n("north")
    await world.read()
    assert world.n("north") == 9
    older = {key: dict(fields) for key, fields in world.store.hashes.items()}
    await world.publish("north", 0, 6, 8)
    await world.read()
    assert world.n("north") == 13
    for hashes in ({}, older):
        world.store.hashes = hashes
        await world.read()
        assert world.n("north") == 13
    # One owner has written again, the other not yet.
    world.store.flush_all()
    await world.publish("north", 0, 7, 9)
    await world.read()
    assert world.n("north") == 13
    await world.publish("north", 1, 5, 5)
    await world.read()
    assert world.n("north") == 14


async def test_no_more_are_held_than_told_and_the_one_not_used_for_longest_goes() -> None:
    world = World(segments=3)
    await world.complete(0, 1)
    for segment in ("a", "b", "c"):
        await world.publish(segment, 0, 1, 1)
    await world.view.refresh()
    for segment in ("a", "b", "c"):
        world.n(segment)
    await world.read()
    assert world.n("a") == 1
    await world.publish("d", 0, 2, 1)
    world.n("d")
    await world.read()
    assert len(world.view.segments) == 3
    assert world.view.segments.counts["dropped"] == 1
    assert [world.n(segment) for segment in ("a", "c", "d")] == [1, 1, 1]
    assert world.n("b") == 0


def test_no_more_are_wanted_than_could_be_held() -> None:
    held = HeldSegments(SegmentMixture(ALGORITHM), task="class", partitions=1, most=2)
    for n in range(100):
        held.current(f"s{n}")
    assert held.wanted == 2


async def test_none_held_is_no_credit_of_segments() -> None:
    world = World(segments=0)
    await world.complete(0, 1)
    await world.view.refresh()
    assert world.view.of_segment("north") is None
    assert world.view.segments.to_read(10) == []


async def test_a_damaged_contribution_leaves_the_one_before_and_it_is_said() -> None:
    world = await holding_north()
    sound = world.store.hashes[Key("class", "north")][0]
    await world.publish(None, 1, 2, 1)
    for damage in (b"short", sound[:60] + b"\x00" + sound[61:]):
        world.store.hashes[Key("class", "north")][0] = damage
        world.view.segments.changed()
        await world.view.refresh_segments()
        await world.view.refresh()
        assert world.n("north") == 4
        assert world.view.degraded == "redis-damaged"
    world.store.hashes[Key("class", "north")][0] = sound
    world.view.segments.changed()
    await world.read()
    await world.view.refresh()
    assert world.view.degraded is None


async def test_after_a_reset_nothing_a_segment_had_learned_before_counts() -> None:
    world = await holding_north()
    assert world.n("north") == 4
    await world.publish(None, 1, 1, 0, generation=1)
    await world.view.refresh()
    snapshot = world.view.of_segment("north")
    assert snapshot is not None
    assert (snapshot.block.n, snapshot.block.generation) == (0, 1)
    # Read anew it still holds what was learned before.
    await world.read()
    assert world.n("north") == 0
    await world.publish("north", 0, 2, 3, generation=1)
    await world.read()
    assert world.n("north") == 3


async def test_without_redis_segments_come_from_the_weights_topic() -> None:
    world = World(
        log=[
            (Key("class"), 0, Stored(Order(0, 1, 2), part(9))),
            (Key("class", "north"), 0, Stored(Order(0, 1, 1), part(4))),
            (Key("class", "north"), 1, Stored(Order(0, 1, 1), part(5))),
            (Key("other", "north"), 0, Stored(Order(0, 1, 1), part(100))),
        ]
    )
    world.store.available = False
    await world.view.start()
    assert world.view.current().block.n == 9
    assert world.n("north") == 9
    assert world.view.degraded == "redis-away"
    await world.view.stop()


async def test_redis_away_while_a_segment_is_asked_for_is_no_error() -> None:
    world = World()
    await world.publish("north", 0, 1, 4)
    await world.complete(1)
    await world.view.refresh()
    world.n("north")
    world.store.available = False
    assert not await world.view.refresh_segments()
    assert world.n("north") == 0
    world.store.available = True
    await world.read()
    assert world.n("north") == 4


@pytest.mark.parametrize(("algorithm", "held"), [("bank", True), ("ml_poly", True), ("uniform", False)])
async def test_segments_are_held_where_something_is_learned(algorithm: str, held: bool) -> None:
    ensemble = config.Ensemble(
        members=list(MEMBERS),
        task=config.Task(classes=["x", "y"]),
        learning=msgspec.convert({"algorithm": algorithm}, config.Learning),
    )
    view = view_of(config.Settings(ensembles={"e": ensemble}), "e")
    assert (view.of_segment("north") is not None) == held
    await view.stop()


async def test_a_cold_segment_is_answered_as_having_learned_nothing_and_asked_for() -> None:
    world = World()
    await world.publish("north", 0, 1, 4)
    await world.publish("north", 1, 1, 5)
    await world.store.cool([NORTH], 0)
    await world.view.start()
    assert world.n("north") == 0
    async with asyncio.timeout(10):
        while await world.store.wanted() != [NORTH]:
            world.looks += 1
            await asyncio.sleep(0.001)
    assert world.n("north") == 0
    assert world.view.segments.counts["cold"] == 1
    await world.publish("north", 0, 1, 4)
    await asyncio.sleep(0.05)
    assert world.n("north") == 0, "half of it is not it"
    await world.publish("north", 1, 1, 5)
    await asyncio.sleep(0.05)
    assert world.view.segments.counts["held"] == 0
    assert world.n("north") == 9, "it was read without being asked for again"
    assert len(world.view.segments.cold(9)) == 0
    await world.view.stop()


async def test_a_held_segment_that_goes_cold_stays_in_use_and_nobody_is_asked() -> None:
    world = await holding_north()
    await world.store.cool([NORTH], 0)
    world.view.segments.changed()
    await world.read()
    await world.read()
    assert world.n("north") == 4
    assert await world.store.wanted() == []


async def test_a_held_segment_is_asked_for_if_it_was_taught_before_it_went_cold() -> None:
    world = await holding_north()
    await world.publish("north", 1, 1, 3)
    await world.store.cool([NORTH], 0)
    await world.read()
    assert world.n("north") == 4
    await world.read()
    assert await world.store.wanted() == [NORTH]
    await world.publish("north", 1, 1, 3)
    await world.read()
    assert world.n("north") == 4, "what is back alone is not all of it"
    await world.publish("north", 0, 1, 4)
    await world.read()
    assert world.n("north") == 7


async def test_no_more_cold_segments_are_asked_for_than_can_be_held() -> None:
    world = World()
    await world.complete(0, 1)
    keys = [Key("class", f"s{n}") for n in range(9)]
    for sequence, key in enumerate(keys):
        await world.publish(key.segment, 0, sequence, 1)
    await world.store.cool(keys, 0)
    await world.view.refresh()
    for key in keys:
        world.n(key.segment or "")
        await world.view.refresh_segments()
    await world.view.refresh_segments()
    assert len(await world.store.wanted()) == 3


async def test_redis_away_when_a_cold_segment_is_asked_for_is_survived() -> None:
    world = await holding_north()
    await world.publish("south", 0, 2, 4)
    await world.store.cool([Key("class", "south")], 0)
    world.n("south")
    await world.read()
    world.store.available = False
    assert not await world.view.refresh_segments()
    world.store.available = True
    assert await world.view.refresh_segments()
    assert await world.store.wanted() == [Key("class", "south")]
