"""Segments nobody labels leave Redis, and come back, the same bytes, when somebody labels or wants them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from stream_ensemble.learner import publisher
from stream_ensemble.learner.publisher import WeightsPublisher
from stream_ensemble.stores.contributions import Change, Key, Marker, Order, Stored
from stream_ensemble.stores.memory_contributions import MemoryContributionStore

WHOLE, NORTH, SOUTH = Key("class"), Key("class", "north"), Key("class", "south")
AFTER_S, BEGIN_S = 100.0, 1_000_000.0


class Owners:
    """Two owners of one Redis, and a clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = BEGIN_S
        self.store = MemoryContributionStore()
        self.sequence = 0
        self.overtaken: list[Order] = []
        self.owners = [self.owner(p) for p in range(2)]
        monkeypatch.setattr(publisher, "_now_ms", self.now_ms)

    def now_ms(self) -> int:
        return round(self.now_s * 1000)

    def owner(self, partition: int, after_s: float = AFTER_S) -> WeightsPublisher:
        return WeightsPublisher(
            self.store, partition, on_overtaken=self.overtaken.append, cold_after_s=after_s
        )

    async def teach(self, partition: int, *keys: Key) -> Stored:
        self.sequence += 1
        order, value = Order(0, 1, self.sequence), f"state {self.sequence}".encode()
        self.owners[partition].offer([Change(key, order, value, self.now_ms()) for key in keys], order)
        await self.owners[partition].publish()
        return Stored(order, value)

    async def look(self, after_s: float = 0.0) -> None:
        """Time passes, and each owner has its look."""
        self.now_s += after_s
        for owner in self.owners:
            await owner.check()
            await owner.publish()

    async def fields(self, key: Key = NORTH) -> dict[int, Stored]:
        return dict((await self.store.read([key])).fields[key])

    async def cold(self, key: Key = NORTH) -> dict[int, Order]:
        return dict((await self.store.read([key])).cold.get(key, {}))

    def take_over(self, partition: int, held: dict[Key, Change], after_s: float = AFTER_S) -> None:
        """A new owner, which knows what the weights topic says."""
        self.owners[partition] = self.owner(partition, after_s)
        order = max(change.order for change in held.values())
        self.owners[partition].offer(held.values(), order)


@pytest.fixture
def it(monkeypatch: pytest.MonkeyPatch) -> Owners:
    return Owners(monkeypatch)


async def test_a_segment_without_a_label_for_long_is_cold_and_the_whole_never_is(it: Owners) -> None:
    first, second = await it.teach(0, WHOLE, NORTH), await it.teach(1, NORTH)
    await it.look(AFTER_S - 1)
    assert await it.fields() == {0: first, 1: second}
    await it.look(1)
    assert await it.fields() == {}
    assert await it.cold() == {0: first.order, 1: second.order}
    assert await it.fields(WHOLE) == {0: first}
    assert [owner.cooling.cold for owner in it.owners] == [{NORTH}, {NORTH}]
    await it.look(AFTER_S)
    markers = (await it.store.markers()).markers
    assert markers == {p: Marker(held.order, complete=True) for p, held in enumerate((first, second))}
    assert [owner.degraded for owner in it.owners] == [None, None]


async def test_a_label_in_one_partition_keeps_all_of_its_segment(it: Owners) -> None:
    first = await it.teach(0, NORTH)
    await it.look(AFTER_S / 2)
    second = await it.teach(1, NORTH)
    await it.look(AFTER_S / 2 + 1)
    assert await it.fields() == {0: first, 1: second}
    assert it.owners[0].cooling.cold == set()
    await it.look(AFTER_S / 2)
    assert await it.cold() == {0: first.order, 1: second.order}


async def test_wanted_by_a_fuser_it_is_back_whole_and_stays_as_long_as_after_a_label(it: Owners) -> None:
    first, second = await it.teach(0, NORTH), await it.teach(1, NORTH)
    await it.look(AFTER_S)
    await it.store.want([NORTH])
    await it.look(1)
    assert await it.fields() == {0: first, 1: second}
    assert await it.cold() == {}
    assert await it.store.wanted() == []
    await it.look(AFTER_S - 1)
    assert await it.fields() == {0: first, 1: second}
    await it.look(1)
    assert await it.fields() == {}


async def test_a_label_brings_all_of_it_back(it: Owners) -> None:
    first = await it.teach(0, NORTH)
    await it.teach(1, NORTH)
    await it.look(AFTER_S)
    again = await it.teach(1, NORTH)
    assert await it.cold() == {0: first.order}, "one that is back alone is not taken for all of it"
    await it.look()
    assert await it.fields() == {0: first, 1: again}
    assert await it.cold() == {}


async def test_after_redis_lost_everything_only_what_is_warm_is_written(it: Owners) -> None:
    first = await it.teach(0, WHOLE, NORTH)
    await it.look(AFTER_S)
    second = await it.teach(0, SOUTH)
    it.store.flush_all()
    await it.look()
    assert await it.fields(WHOLE) == {0: first}
    assert await it.fields(SOUTH) == {0: second}
    assert await it.fields(NORTH) == {}
    assert await it.cold(NORTH) == {0: first.order}
    assert (await it.store.markers()).markers[0] == Marker(second.order, complete=True)
    await it.look()
    assert it.owners[0].degraded is None
    assert it.owners[0].cooling.cold == {NORTH}


async def test_a_new_owner_leaves_cold_what_is_cold_and_knows_it(it: Owners) -> None:
    held = {NORTH: Change(NORTH, Order(0, 1, 1), b"north", it.now_ms())}
    it.take_over(0, held)
    await it.look(AFTER_S)
    await it.look()
    it.take_over(0, held)
    await it.look()
    await it.look()
    assert await it.fields() == {}
    assert await it.cold() == {0: Order(0, 1, 1)}
    assert it.owners[0].cooling.cold == {NORTH}
    await it.store.want([NORTH])
    await it.look()
    assert await it.fields() == {0: Stored(Order(0, 1, 1), b"north")}


async def test_what_was_wanted_before_its_owner_changed_leaves_in_the_end(it: Owners) -> None:
    """The new owner knows of the label alone, not that somebody wanted the segment later."""
    held = {NORTH: Change(NORTH, Order(0, 1, 1), b"north", it.now_ms())}
    it.take_over(0, held)
    await it.look(AFTER_S)
    await it.look()
    await it.store.want([NORTH])
    await it.look()
    it.take_over(0, held)
    await it.look(AFTER_S / 2)
    await it.look()
    assert await it.fields() != {}
    await it.look(AFTER_S / 2 + 1)
    assert await it.cold() == {0: Order(0, 1, 1)}


async def test_an_older_replica_that_has_it_still_is_noticed(it: Owners) -> None:
    first = await it.teach(0, NORTH)
    await it.look()
    hashes, taught = {key: dict(fields) for key, fields in it.store.hashes.items()}, dict(it.store.taught)
    await it.look(AFTER_S)
    assert await it.cold() == {0: first.order}
    it.store.flush_all()
    it.store.hashes, it.store.taught = hashes, taught
    await it.look()
    assert await it.cold() == {0: first.order}


async def test_switched_off_all_comes_back_and_stays(it: Owners) -> None:
    held = {NORTH: Change(NORTH, Order(0, 1, 1), b"north", it.now_ms())}
    it.take_over(0, held)
    await it.look(AFTER_S)
    await it.look()
    assert await it.cold() != {}
    it.take_over(0, held, after_s=0.0)
    await it.look(9 * AFTER_S)
    await it.look()
    assert await it.fields() == {0: Stored(Order(0, 1, 1), b"north")}
    assert await it.cold() == {}


async def test_redis_away_in_the_middle_costs_a_minute(it: Owners) -> None:
    first = await it.teach(0, NORTH)
    await it.look()

    async def away(keys: object, before: int) -> list[int | None]:
        raise publisher.ServerUnavailableError("gone in between")

    sound, it.store.cool = it.store.cool, away  # type: ignore[method-assign]
    await it.look(AFTER_S)
    assert it.owners[0].degraded == "gone in between"
    it.store.cool = sound  # type: ignore[method-assign]
    await it.look()
    assert await it.fields() == {0: first}
    await it.look(60)
    assert await it.cold() == {0: first.order}
    assert it.owners[0].degraded is None


async def test_a_label_that_comes_while_redis_takes_it_out_brings_it_back(it: Owners) -> None:
    await it.teach(0, NORTH)
    await it.look(AFTER_S - 1)
    cool, again = it.store.cool, Order(0, 1, 2)

    async def taught_meanwhile(keys: Sequence[Key], before: int) -> list[int | None]:
        answers = await cool(keys, before)
        it.owners[0].offer([Change(NORTH, again, b"again", it.now_ms())], again)
        return answers

    it.store.cool = taught_meanwhile  # type: ignore[method-assign]
    await it.look(1)
    it.store.cool = cool  # type: ignore[method-assign]
    assert await it.fields() == {0: Stored(again, b"again")}
    assert it.owners[0].cooling.cold == set()
    await it.look(AFTER_S + 1)
    assert await it.cold() == {0: again}


async def test_thousands_go_and_come_in_several_looks(it: Owners) -> None:
    keys = [Key("class", f"s{n}") for n in range(3_000)]
    await it.teach(0, *keys)
    await it.look(AFTER_S)
    assert len(it.owners[0].cooling.cold) == 2_000
    await it.look()
    assert it.owners[0].cooling.cold == set(keys)
    await it.store.want(keys)
    for n in range(1, 7):
        await it.look()
        assert len(await it.store.wanted()) == 3_000 - 500 * n
    assert it.owners[0].cooling.cold == set()
