"""Redis' view of one partition is kept, whatever Redis loses, and a stopped owner notices that it is one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from stream_ensemble.learner.publisher import WeightsPublisher
from stream_ensemble.stores.contribution_field import encode_field
from stream_ensemble.stores.contributions import Change, Key, Marker, Order, Snapshot, Stored
from stream_ensemble.stores.memory_contributions import MemoryContributionStore

WHOLE, NORTH = Key("class"), Key("class", "north")


def change(sequence: int, key: Key = WHOLE, epoch: int = 3) -> Change:
    return Change(key, Order(0, epoch, sequence), f"state {sequence}".encode())


class Published:
    """A publisher of partition 5 over a store in memory."""

    def __init__(self) -> None:
        self.store = MemoryContributionStore()
        self.overtaken: list[Order] = []
        self.publisher = self.of(self.store)

    def of(self, store: MemoryContributionStore) -> WeightsPublisher:
        return WeightsPublisher(store, 5, on_overtaken=self.overtaken.append, check_interval_s=0.01)

    async def stands(self, key: Key = WHOLE) -> Stored | None:
        return (await self.store.read([key])).fields[key].get(5)

    async def marker(self) -> Marker | None:
        return (await self.store.markers()).markers.get(5)


async def test_fields_then_marker_stand_after_publishing() -> None:
    it = Published()
    it.publisher.offer([change(1), change(2, NORTH)], Order(0, 3, 2))
    await it.publisher.publish()
    assert await it.stands() == Stored(Order(0, 3, 1), b"state 1")
    assert await it.stands(NORTH) == Stored(Order(0, 3, 2), b"state 2")
    assert await it.marker() == Marker(Order(0, 3, 2), complete=True)


async def test_a_partition_that_learned_nothing_says_so_with_a_marker() -> None:
    it = Published()
    it.publisher.offer([], Order(0, 0, 0))
    await it.publisher.publish()
    assert await it.marker() == Marker(Order(0, 0, 0), complete=True)


async def test_what_was_offered_while_redis_was_away_is_published_when_it_is_back() -> None:
    it = Published()
    it.store.available = False
    it.publisher.offer([change(1)], Order(0, 3, 1))
    await it.publisher.publish()
    it.publisher.offer([change(2, NORTH)], Order(0, 3, 2))
    await it.publisher.publish()
    assert it.publisher.degraded is not None
    it.store.available = True
    await it.publisher.publish()
    assert it.publisher.degraded is None
    assert await it.stands() == Stored(Order(0, 3, 1), b"state 1")
    assert await it.stands(NORTH) == Stored(Order(0, 3, 2), b"state 2")


async def test_an_idle_owner_writes_everything_again_after_redis_lost_it() -> None:
    it = Published()
    it.publisher.offer([change(1), change(2, NORTH)], Order(0, 3, 2))
    await it.publisher.publish()
    it.store.flush_all()
    await it.publisher.check()
    await it.publisher.publish()
    assert await it.stands() is not None
    assert await it.stands(NORTH) is not None
    assert await it.marker() == Marker(Order(0, 3, 2), complete=True)


async def test_a_busy_owner_writes_also_what_did_not_change_after_redis_lost_it() -> None:
    it = Published()
    it.publisher.offer([change(1, NORTH)], Order(0, 3, 1))
    await it.publisher.publish()
    it.store.flush_all()
    running = asyncio.create_task(it.publisher.run())
    async with asyncio.timeout(10):
        sequence = 1
        while await it.stands(NORTH) is None:
            sequence += 1
            it.publisher.offer([change(sequence)], Order(0, 3, sequence))
            await asyncio.sleep(0.001)
    running.cancel()


async def test_ends_when_it_is_cancelled_just_as_something_is_offered() -> None:
    it = Published()
    running = asyncio.create_task(it.publisher.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    it.publisher.offer([change(1)], Order(0, 3, 1))
    await asyncio.sleep(0)
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=5)
    assert done


async def test_after_falling_back_to_an_older_replica_everything_is_written_again() -> None:
    it = Published()
    it.publisher.offer([change(1)], Order(0, 3, 1))
    await it.publisher.publish()
    older = {key: dict(fields) for key, fields in it.store.hashes.items()}
    it.publisher.offer([change(2)], Order(0, 3, 2))
    await it.publisher.publish()
    it.store.hashes = older
    await it.publisher.check()
    await it.publisher.publish()
    assert await it.stands() == Stored(Order(0, 3, 2), b"state 2")
    assert await it.marker() == Marker(Order(0, 3, 2), complete=True)


async def test_what_is_offered_while_it_looks_is_not_taken_for_a_loss() -> None:
    it = Published()
    it.publisher.offer([change(1), change(2, NORTH)], Order(0, 3, 2))
    await it.publisher.publish()
    look = it.store.own

    async def offered_meanwhile(partition: int, keys: Sequence[Key]) -> Snapshot:
        seen = await look(partition, keys)
        it.publisher.offer([change(3)], Order(0, 3, 3))
        return seen

    it.store.own = offered_meanwhile  # type: ignore[method-assign]
    await it.publisher.check()
    written: list[Key] = []
    publish = it.store.publish

    async def note(partition: int, changes: Sequence[Change]) -> list[bool]:
        written.extend(change.key for change in changes)
        return await publish(partition, changes)

    it.store.publish = note  # type: ignore[method-assign]
    await it.publisher.publish()
    assert written == [WHOLE]


async def test_a_loss_between_two_flushes_is_noticed_before_a_marker_says_complete() -> None:
    it = Published()
    it.publisher.offer([change(1), change(2, NORTH)], Order(0, 3, 2))
    await it.publisher.publish()
    it.store.flush_all()
    it.publisher.offer([change(3)], Order(0, 3, 3))
    await it.publisher.publish()
    assert await it.marker() is None
    await it.publisher.publish()
    assert await it.marker() == Marker(Order(0, 3, 3), complete=True)
    assert await it.stands() == Stored(Order(0, 3, 3), b"state 3")
    assert await it.stands(NORTH) == Stored(Order(0, 3, 2), b"state 2")


async def test_a_single_lost_field_is_written_again() -> None:
    it = Published()
    it.publisher.offer([change(1), change(2, NORTH)], Order(0, 3, 2))
    await it.publisher.publish()
    del it.store.hashes[NORTH][5]
    await it.publisher.check()
    await it.publisher.publish()
    assert await it.stands(NORTH) == Stored(Order(0, 3, 2), b"state 2")


async def test_a_damaged_field_is_written_again_even_if_it_claims_a_larger_order() -> None:
    it = Published()
    it.publisher.offer([change(1)], Order(0, 3, 1))
    await it.publisher.publish()
    it.store.hashes[WHOLE][5] = b"9" * 48 + it.store.hashes[WHOLE][5][48:]
    await it.publisher.check()
    await it.publisher.publish()
    assert await it.stands() == Stored(Order(0, 3, 1), b"state 1")
    assert it.overtaken == []


async def test_a_damaged_field_in_the_way_of_a_change_is_taken_out() -> None:
    it = Published()
    it.store.hashes[WHOLE] = {5: b"9" * 48 + b"0" * 16}
    it.publisher.offer([change(1)], Order(0, 3, 1))
    await it.publisher.publish()
    await it.publisher.publish()
    assert await it.stands() == Stored(Order(0, 3, 1), b"state 1")
    assert it.overtaken == []


async def test_a_stopped_owner_that_resumes_changes_nothing_and_is_told() -> None:
    it = Published()
    successor = it.of(it.store)
    successor.offer([change(1, epoch=4)], Order(0, 4, 1))
    await successor.publish()
    it.publisher.offer([change(900)], Order(0, 3, 900))
    await it.publisher.publish()
    assert await it.stands() == Stored(Order(0, 4, 1), b"state 1")
    assert await it.marker() == Marker(Order(0, 4, 1), complete=True)
    assert it.overtaken == [Order(0, 4, 1)]


async def test_a_marker_above_everything_known_is_reported_when_idle() -> None:
    it = Published()
    await it.store.mark(5, Marker(Order(0, 7, 7), complete=True))
    it.publisher.offer([], Order(0, 0, 0))
    await it.publisher.check()
    assert it.overtaken == [Order(0, 7, 7)]


async def test_fields_of_a_flush_whose_marker_was_never_written_are_completed() -> None:
    it = Published()
    await it.store.publish(5, [change(1)])
    it.publisher.offer([change(1), change(2, NORTH)], Order(0, 3, 2))
    await it.publisher.publish()
    assert await it.marker() == Marker(Order(0, 3, 2), complete=True)
    assert await it.stands(NORTH) == Stored(Order(0, 3, 2), b"state 2")


async def test_many_keys_are_all_looked_at_in_turn() -> None:
    it = Published()
    keys = [Key("class", f"s{n}") for n in range(50)]
    it.publisher.offer([change(n, key) for n, key in enumerate(keys)], Order(0, 3, 50))
    await it.publisher.publish()
    del it.store.hashes[keys[45]]
    for _ in range(5):
        await it.publisher.check()
    await it.publisher.publish()
    assert await it.stands(keys[45]) is not None


async def test_many_fields_go_out_in_several_calls_and_the_marker_after_all_of_them() -> None:
    it = Published()
    sizes: list[int] = []
    publish = it.store.publish

    async def note(partition: int, changes: Sequence[Change]) -> list[bool]:
        assert await it.marker() is None
        sizes.append(len(changes))
        return await publish(partition, changes)

    it.store.publish = note  # type: ignore[method-assign]
    keys = [Key("class", f"s{n}") for n in range(1200)]
    it.publisher.offer([*(change(1, key) for key in keys), change(1)], Order(0, 3, 1))
    await it.publisher.publish()
    assert (len(sizes), sum(sizes), max(sizes)) == (3, 1201, 500)
    assert await it.marker() == Marker(Order(0, 3, 1), complete=True)
    await it.publisher.publish()
    assert len(sizes) == 3


async def test_while_much_is_written_again_the_whole_stays_fresh_and_another_loss_is_noticed() -> None:
    it = Published()
    keys = [Key("class", f"s{n}") for n in range(1200)]
    it.publisher.offer([change(1), *(change(1, key) for key in keys)], Order(0, 3, 1))
    await it.publisher.publish()
    it.store.flush_all()
    await it.publisher.check()
    seen: list[tuple[Marker | None, Stored | None]] = []
    publish = it.store.publish

    async def note(partition: int, changes: Sequence[Change]) -> list[bool]:
        if len(seen) == 1:
            it.publisher.offer([change(2)], Order(0, 3, 2))
        if len(seen) == 2:
            it.store.flush_all()
        answer = await publish(partition, changes)
        seen.append((await it.marker(), await it.stands()))
        return answer

    it.store.publish = note  # type: ignore[method-assign]
    await it.publisher.publish()
    assert seen[1] == (Marker(Order(0, 3, 1), complete=False), Stored(Order(0, 3, 1), b"state 1"))
    assert await it.marker() is None  # emptied before the last call: none may say complete
    await it.publisher.publish()
    assert await it.marker() == Marker(Order(0, 3, 2), complete=True)
    assert await it.stands() == Stored(Order(0, 3, 2), b"state 2")
    assert [key for key in keys if await it.stands(key) is None] == []


def test_the_test_double_keeps_the_bytes_redis_would_keep() -> None:
    assert encode_field(WHOLE, 5, Order(0, 3, 1), b"x").startswith(b"0000000000000000" + b"0000000000000003")
