"""What every contribution store promises, held over memory, a real Redis and a real Redis Cluster."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
import redis

from stream_ensemble import config
from stream_ensemble.errors import ServerUnavailableError, StateError
from stream_ensemble.stores.contribution_field import decode_field, encode_field
from stream_ensemble.stores.contributions import MARK, Change, ContributionStore, Key, Marker, Order, Stored
from stream_ensemble.stores.memory_contributions import MemoryContributionStore
from stream_ensemble.stores.redis_cluster import ClusterLink
from stream_ensemble.stores.redis_contributions import RedisContributionStore
from stream_ensemble.stores.redis_keys import CLUSTER_SHARDS, RedisKeys
from stream_ensemble.stores.redis_link import Call, Link, ServerLink
from tests.redis_cluster import RedisCluster

EVERYWHERE = Key("class")
NORTH = Key("class", "north")


class Subject:
    """A store, and ways to do to it what the world does."""

    def __init__(
        self,
        store: ContributionStore,
        put: Callable[[Key | None, int, bytes], Awaitable[None]],
        get: Callable[[Key | None, int], Awaitable[bytes | None]],
        empty: Callable[[], Awaitable[None]],
        put_mark: Callable[[Key, bytes], Awaitable[None]],
    ) -> None:
        self.store = store
        self.put = put
        self.get = get
        self.empty = empty
        self.put_mark = put_mark


@pytest.fixture(params=["memory", "redis", "cluster"])
def subject(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Iterator[Subject]:
    if request.param == "memory":
        yield _memory_subject()
        return
    keys = RedisKeys("test", uuid.uuid4().hex)
    link: Link
    if request.param == "redis":
        server = config.Redis(url=request.getfixturevalue("redis_url"), timeout_s=2)
        nodes, link, there = [server.url], ServerLink(server), keys
    else:
        cluster: RedisCluster = request.getfixturevalue("redis_cluster")
        server = config.Redis(url=cluster.url, timeout_s=2)
        nodes = [node.url for node in cluster.nodes]
        link, there = ClusterLink(server), keys.spread(CLUSTER_SHARDS)
    store = RedisContributionStore(server, keys)
    yield _redis_subject(store, link, there, nodes)
    runner.run(store.close())
    runner.run(link.close())


def _redis_subject(
    store: RedisContributionStore, link: Link, keys: RedisKeys, nodes: Sequence[str]
) -> Subject:
    def name(key: Key | None) -> str:
        return keys.markers() if key is None else keys.weights(key)

    async def call(name: str, *words: str | int | bytes) -> Any:
        (answer,) = await link.run([Call(name, words)])
        return answer

    async def put(key: Key | None, partition: int, raw: bytes) -> None:
        await call(name(key), "HSET", name(key), partition, raw)

    async def get(key: Key | None, partition: int) -> bytes | None:
        found: bytes | None = await call(name(key), "HGET", name(key), partition)
        return found

    async def put_mark(key: Key, raw: bytes) -> None:
        there = keys.cold(keys.shard(key))
        await call(there, "HSET", there, keys.place(key), raw)

    async def empty() -> None:
        for url in nodes:
            with redis.Redis.from_url(url) as client:
                client.script_flush()
        for each in (name(EVERYWHERE), name(NORTH), *map(keys.markers, range(keys.shards))):
            await call(each, "DEL", each)

    return Subject(store, put, get, empty, put_mark)


def _memory_subject() -> Subject:
    store = MemoryContributionStore()

    async def put(key: Key | None, partition: int, raw: bytes) -> None:
        store.hashes.setdefault(key, {})[partition] = raw

    async def get(key: Key | None, partition: int) -> bytes | None:
        return store.hashes.get(key, {}).get(partition)

    async def empty() -> None:
        store.flush_all()

    async def put_mark(key: Key, raw: bytes) -> None:
        store.marks[key] = raw

    return Subject(store, put, get, empty, put_mark)


async def test_reads_back_what_owners_published(subject: Subject) -> None:
    await subject.store.publish(0, [Change(EVERYWHERE, Order(0, 1, 1), b"zero")])
    await subject.store.publish(
        3, [Change(EVERYWHERE, Order(0, 2, 9), b"three"), Change(NORTH, Order(0, 2, 8), bytes(range(256)))]
    )
    snapshot = await subject.store.read([EVERYWHERE, NORTH])
    assert snapshot.fields == {
        EVERYWHERE: {0: Stored(Order(0, 1, 1), b"zero"), 3: Stored(Order(0, 2, 9), b"three")},
        NORTH: {3: Stored(Order(0, 2, 8), bytes(range(256)))},
    }
    assert not snapshot.damaged


async def test_what_nobody_wrote_is_absent_not_an_error(subject: Subject) -> None:
    snapshot = await subject.store.read([NORTH])
    assert snapshot.fields == {NORTH: {}}
    assert snapshot.markers == {}
    assert await subject.store.publish(0, []) == []


@pytest.mark.parametrize(
    ("held", "offered", "wins"),
    [
        (Order(0, 1, 5), Order(0, 1, 6), True),
        (Order(0, 1, 5), Order(0, 1, 4), False),
        (Order(0, 2, 1), Order(0, 1, 99), False),
        (Order(0, 1, 99), Order(0, 2, 1), True),
        (Order(1, 1, 1), Order(0, 9, 9), False),
        (Order(0, 9, 9), Order(1, 1, 1), True),
        (Order(0, 9, 0), Order(0, 10, 0), True),
    ],
)
async def test_the_larger_order_stands(subject: Subject, held: Order, offered: Order, wins: bool) -> None:
    await subject.store.publish(1, [Change(EVERYWHERE, held, b"held")])
    assert await subject.store.publish(1, [Change(EVERYWHERE, offered, b"offered")]) == [wins]
    stored = (await subject.store.read([EVERYWHERE])).fields[EVERYWHERE][1]
    assert stored == (Stored(offered, b"offered") if wins else Stored(held, b"held"))


async def test_publishing_again_after_a_lost_answer_changes_nothing(subject: Subject) -> None:
    change = Change(EVERYWHERE, Order(0, 1, 1), b"x")
    assert await subject.store.publish(0, [change]) == [True]
    assert await subject.store.publish(0, [change]) == [True]
    assert (await subject.store.read([EVERYWHERE])).fields[EVERYWHERE] == {0: Stored(Order(0, 1, 1), b"x")}


async def test_a_stopped_owners_marker_loses(subject: Subject) -> None:
    assert await subject.store.mark(2, Marker(Order(0, 5, 1), complete=True)) == "written"
    assert await subject.store.mark(2, Marker(Order(0, 4, 7), complete=True)) == "overtaken"
    assert (await subject.store.markers()).markers == {2: Marker(Order(0, 5, 1), complete=True)}


async def test_an_owner_sees_its_own_fields_and_marker_only(subject: Subject) -> None:
    for partition in (1, 2):
        await subject.store.publish(partition, [Change(EVERYWHERE, Order(0, 1, partition), b"x")])
        await subject.store.mark(partition, Marker(Order(0, 1, partition), complete=True))
    await subject.put(NORTH, 2, b"damaged")
    snapshot = await subject.store.own(2, [EVERYWHERE, NORTH])
    assert snapshot.fields == {EVERYWHERE: {2: Stored(Order(0, 1, 2), b"x")}, NORTH: {}}
    assert snapshot.markers == {2: Marker(Order(0, 1, 2), complete=True)}
    assert snapshot.damaged.keys() == {(NORTH, 2)}


async def test_a_marker_is_not_written_after_one_that_is_gone(subject: Subject) -> None:
    """Else it would say that fields are complete which went with the marker before."""
    first, second = Marker(Order(0, 5, 1), complete=True), Marker(Order(0, 5, 2), complete=True)
    assert await subject.store.mark(2, second, after=first.order) == "lost"
    assert (await subject.store.markers()).markers == {}
    assert await subject.store.mark(2, first) == "written"
    assert await subject.store.mark(2, second, after=first.order) == "written"
    assert await subject.store.mark(2, second, after=second.order) == "written"
    third = Marker(Order(0, 5, 3), complete=True)
    assert await subject.store.mark(2, third, after=first.order) == "lost"
    assert await subject.store.mark(2, first, after=second.order) == "overtaken"
    assert await subject.store.mark(2, second, after=first.order) == "written", "an answer that was lost"
    assert (await subject.store.markers()).markers == {2: second}


async def test_works_on_after_the_server_lost_everything(subject: Subject) -> None:
    await subject.store.publish(0, [Change(EVERYWHERE, Order(0, 1, 2), b"x")])
    await subject.store.mark(0, Marker(Order(0, 1, 2), complete=True))
    await subject.empty()
    assert (await subject.store.markers()).markers == {}
    assert await subject.store.publish(0, [Change(EVERYWHERE, Order(0, 1, 2), b"x")]) == [True]
    assert (await subject.store.read([EVERYWHERE])).fields[EVERYWHERE] == {0: Stored(Order(0, 1, 2), b"x")}


@pytest.mark.parametrize("damage", [b"", b"short", b"9" * 48, b"x" * 200, None])
async def test_damaged_values_are_refused_and_mended(subject: Subject, damage: bytes | None) -> None:
    change = Change(EVERYWHERE, Order(0, 1, 1), b"sound")
    await subject.store.publish(0, [change])
    await subject.store.publish(1, [change])
    raw = await subject.get(EVERYWHERE, 1)
    assert raw is not None
    await subject.put(EVERYWHERE, 1, raw[:-1] + b"!" if damage is None else damage)
    snapshot = await subject.store.read([EVERYWHERE])
    assert snapshot.fields[EVERYWHERE] == {0: Stored(Order(0, 1, 1), b"sound")}
    assert isinstance(snapshot.damaged[EVERYWHERE, 1], StateError)
    await subject.store.remove_damaged(EVERYWHERE, 1)
    await subject.store.remove_damaged(EVERYWHERE, 0)
    assert await subject.store.publish(1, [change]) == [True]
    assert not (await subject.store.read([EVERYWHERE])).damaged
    assert (await subject.store.read([EVERYWHERE])).fields[EVERYWHERE].keys() == {0, 1}


async def test_a_damaged_marker_is_no_marker(subject: Subject) -> None:
    await subject.put(None, 0, b"nonsense")
    snapshot = await subject.store.markers()
    assert snapshot.markers == {}
    assert isinstance(snapshot.damaged[None, 0], StateError)
    await subject.store.remove_damaged(None, 0)
    assert not (await subject.store.markers()).damaged


async def test_a_field_copied_to_another_partition_or_key_is_refused(subject: Subject) -> None:
    raw = encode_field(EVERYWHERE, 0, Order(0, 1, 1), b"x")
    await subject.put(EVERYWHERE, 1, raw)
    await subject.put(NORTH, 0, raw)
    snapshot = await subject.store.read([EVERYWHERE, NORTH])
    assert snapshot.damaged.keys() == {(EVERYWHERE, 1), (NORTH, 0)}


async def test_segments_cannot_be_taken_for_one_another(subject: Subject) -> None:
    keys = [Key("class", s) for s in (None, "*", "=*", "a}b", "a%7Db", "{", "", ":", "ü")]
    for sequence, key in enumerate(keys):
        assert await subject.store.publish(0, [Change(key, Order(0, 1, sequence), b"x")]) == [True]
    fields = (await subject.store.read(keys)).fields
    assert [fields[key][0].order.sequence for key in keys] == list(range(len(keys)))


# --- cold segments ----------------------------------------------------------------------------------

#: 2001 and later, in ms; some clock of some owner.
DAY = 86_400_000
LONG_AGO, NOW = 1_000 * DAY, 1_010 * DAY


def taught(key: Key, sequence: int, at: int = LONG_AGO, epoch: int = 1, **more: bool) -> Change:
    return Change(key, Order(0, epoch, sequence), f"state {sequence}".encode(), at, **more)


async def cooled(subject: Subject) -> None:
    """The segment north, of which partitions 0 and 2 learned, is cold."""
    await subject.store.publish(0, [taught(NORTH, 3)])
    await subject.store.publish(2, [taught(NORTH, 7)])
    assert await subject.store.cool([NORTH], LONG_AGO) == [0]


async def test_a_cold_segment_leaves_whole_and_says_what_it_was(subject: Subject) -> None:
    await cooled(subject)
    snapshot = await subject.store.read([EVERYWHERE, NORTH])
    assert snapshot.fields == {EVERYWHERE: {}, NORTH: {}}
    assert snapshot.cold == {NORTH: {0: Order(0, 1, 3), 2: Order(0, 1, 7)}}
    assert snapshot.largest() == Order(0, 1, 7)
    assert await subject.get(NORTH, 0) is None
    assert await subject.store.cool([NORTH], LONG_AGO) == [0], "an answer that was lost"
    assert (await subject.store.read([NORTH])).cold == snapshot.cold


async def test_an_owner_sees_what_of_its_own_is_cold(subject: Subject) -> None:
    await cooled(subject)
    await subject.store.mark(2, Marker(Order(0, 1, 7), complete=True))
    snapshot = await subject.store.own(2, [EVERYWHERE, NORTH])
    assert snapshot.cold == {NORTH: {2: Order(0, 1, 7)}}
    assert snapshot.order(NORTH, 2) == Order(0, 1, 7)
    assert snapshot.markers == {2: Marker(Order(0, 1, 7), complete=True)}
    assert (await subject.store.own(1, [NORTH])).cold == {}


async def test_one_that_somebody_has_just_taught_stays(subject: Subject) -> None:
    await subject.store.publish(0, [taught(NORTH, 3)])
    await subject.store.publish(1, [taught(NORTH, 4, NOW)])
    await subject.store.publish(0, [taught(NORTH, 5)])
    assert await subject.store.cool([NORTH], NOW - 1) == [NOW]
    snapshot = await subject.store.read([NORTH])
    assert snapshot.fields[NORTH].keys() == {0, 1}
    assert snapshot.cold == {}
    assert await subject.store.cool([NORTH], NOW) == [0]


async def test_a_label_brings_its_part_back_and_calls_for_the_rest(subject: Subject) -> None:
    await cooled(subject)
    assert await subject.store.wanted() == []
    assert await subject.store.publish(2, [taught(NORTH, 8, NOW)]) == [True]
    snapshot = await subject.store.read([NORTH])
    assert snapshot.fields == {NORTH: {2: Stored(Order(0, 1, 8), b"state 8")}}
    assert snapshot.cold == {NORTH: {0: Order(0, 1, 3)}}
    assert await subject.store.wanted() == [NORTH]
    assert await subject.store.publish(0, [taught(NORTH, 3, NOW)]) == [True]
    snapshot = await subject.store.read([NORTH])
    assert snapshot.fields[NORTH] == {
        0: Stored(Order(0, 1, 3), b"state 3"),
        2: Stored(Order(0, 1, 8), b"state 8"),
    }
    assert snapshot.cold == {}
    assert await subject.store.wanted() == []


async def test_only_what_is_cold_can_be_wanted_and_going_cold_ends_it(subject: Subject) -> None:
    await subject.store.publish(0, [taught(NORTH, 3)])
    await subject.store.want([NORTH, EVERYWHERE, Key("class", "never")])
    await subject.store.want([])
    assert await subject.store.wanted() == []
    await subject.store.cool([NORTH], NOW)
    await subject.store.want([NORTH])
    assert await subject.store.wanted() == [NORTH]
    await subject.store.publish(1, [taught(NORTH, 1)])
    assert await subject.store.cool([NORTH], NOW) == [0], "half of it was back"
    assert await subject.store.wanted() == []
    assert (await subject.store.read([NORTH])).cold[NORTH] == {0: Order(0, 1, 3), 1: Order(0, 1, 1)}


async def test_a_stopped_owner_brings_back_nothing_older_and_takes_out_nothing_for_good(
    subject: Subject,
) -> None:
    await cooled(subject)
    assert await subject.store.publish(2, [taught(NORTH, 6, NOW)]) == [False]
    assert await subject.store.publish(2, [taught(NORTH, 6, cold=True)]) == [False]
    snapshot = await subject.store.read([NORTH])
    assert snapshot.fields == {NORTH: {}}
    assert snapshot.cold == {NORTH: {0: Order(0, 1, 3), 2: Order(0, 1, 7)}}
    await subject.store.publish(2, [taught(NORTH, 1, NOW, epoch=2)])
    assert await subject.store.cool([NORTH], NOW + 9 * DAY) == [0], "its clock is far ahead"
    assert (await subject.store.read([NORTH])).cold[NORTH][2] == Order(0, 2, 1)
    assert await subject.store.publish(2, [taught(NORTH, 2, NOW, epoch=2)]) == [True]
    assert await subject.store.wanted() == [NORTH]


async def test_after_a_loss_what_is_cold_is_marked_again_without_its_value(subject: Subject) -> None:
    for partition, sequence in ((0, 3), (2, 7)):
        assert await subject.store.publish(partition, [taught(NORTH, sequence, cold=True)]) == [True]
        assert await subject.store.publish(partition, [taught(NORTH, sequence, cold=True)]) == [True]
    snapshot = await subject.store.read([NORTH])
    assert snapshot.fields == {NORTH: {}}
    assert snapshot.cold == {NORTH: {0: Order(0, 1, 3), 2: Order(0, 1, 7)}}
    assert await subject.store.publish(0, [taught(NORTH, 4, cold=True)]) == [True]
    assert (await subject.store.read([NORTH])).cold[NORTH][0] == Order(0, 1, 4)


async def test_what_others_have_in_redis_is_completed_rather_than_marked_as_cold(subject: Subject) -> None:
    await subject.store.publish(1, [taught(NORTH, 5, NOW)])
    both = [taught(NORTH, 3, cold=True), taught(Key("class", "south"), 3, cold=True)]
    assert await subject.store.publish(0, both) == [True, True]
    snapshot = await subject.store.read([NORTH, Key("class", "south")])
    assert snapshot.fields[NORTH].keys() == {0, 1}
    assert snapshot.cold == {Key("class", "south"): {0: Order(0, 1, 3)}}
    assert await subject.store.publish(0, [taught(NORTH, 3, cold=True)]) == [True]
    assert await subject.store.cool([NORTH], NOW - 1) == [NOW], "it is as warm as the warmest"


async def test_a_damaged_value_keeps_its_segment_and_a_damaged_mark_is_refused(subject: Subject) -> None:
    await subject.store.publish(0, [taught(NORTH, 3)])
    await subject.put(NORTH, 1, b"damaged")
    assert await subject.store.cool([NORTH], NOW) == [None]
    await subject.store.remove_damaged(NORTH, 1)
    assert await subject.store.cool([NORTH], NOW) == [0]
    await subject.store.remove_damaged(NORTH, MARK)
    assert (await subject.store.read([NORTH])).cold == {NORTH: {0: Order(0, 1, 3)}}, "it is sound"
    await subject.put_mark(NORTH, b"0:0.1.3 1:")
    for snapshot in (await subject.store.read([NORTH]), await subject.store.own(0, [NORTH])):
        assert snapshot.cold == {}
        assert isinstance(snapshot.damaged[NORTH, MARK], StateError)
    await subject.store.remove_damaged(NORTH, MARK)
    assert not (await subject.store.read([NORTH])).damaged


async def test_marks_and_wishes_keep_segments_of_any_name_apart(subject: Subject) -> None:
    keys = [Key("class", s) for s in ("*", "=*", "a}b", "a%7Db", "{", "", ":", "ü", ":=", "a:=b", "=")]
    for sequence, key in enumerate(keys):
        await subject.store.publish(1023, [taught(key, sequence)])
    assert await subject.store.cool(keys, NOW) == [0] * len(keys)
    cold = (await subject.store.read(keys)).cold
    assert [cold[key][1023].sequence for key in keys] == list(range(len(keys)))
    await subject.store.want(keys)
    assert sorted(await subject.store.wanted()) == sorted(keys)


async def test_the_largest_orders_are_told_apart_when_cold(subject: Subject) -> None:
    largest = 10**16 - 1
    orders = [Order(0, 0, 1), Order(0, 9, largest), Order(0, 10, 0), Order(largest, largest, largest)]
    for order in orders:
        assert await subject.store.publish(0, [Change(NORTH, order, b"x")]) == [True]
        await subject.store.cool([NORTH], 0)
        assert (await subject.store.read([NORTH])).cold == {NORTH: {0: order}}
    for order in orders[:-1]:
        assert await subject.store.publish(0, [Change(NORTH, order, b"x")]) == [False]


async def test_a_listener_stays_through_a_silence(subject: Subject) -> None:
    """Longer than the client waits for an answer to a command."""
    heard: asyncio.Queue[int] = asyncio.Queue()

    async def listen() -> None:
        async for partition in subject.store.changes():
            heard.put_nowait(partition)

    listener = asyncio.create_task(listen())
    done, _ = await asyncio.wait([listener], timeout=2.5)
    assert not done
    await subject.store.mark(3, Marker(Order(0, 1, 1), complete=True))
    assert await asyncio.wait_for(heard.get(), 5) == 3
    listener.cancel()


async def test_listeners_hear_of_a_marker(subject: Subject) -> None:
    heard: asyncio.Queue[int] = asyncio.Queue()

    async def listen() -> None:
        async for partition in subject.store.changes():
            heard.put_nowait(partition)

    listener = asyncio.create_task(listen())
    try:
        async with asyncio.timeout(10):
            # The subscription has no acknowledgement here, so the owner's word is repeated until it is heard.
            sequence = 0
            while heard.empty():
                sequence += 1
                await subject.store.mark(7, Marker(Order(0, 1, sequence), complete=True))
                await asyncio.sleep(0.01)
        assert heard.get_nowait() == 7
    finally:
        listener.cancel()


def test_every_single_flipped_byte_is_noticed() -> None:
    raw = encode_field(EVERYWHERE, 3, Order(1, 2, 3), b"value")
    assert decode_field(EVERYWHERE, 3, raw) == Stored(Order(1, 2, 3), b"value")
    for at in range(len(raw)):
        with pytest.raises(StateError):
            decode_field(EVERYWHERE, 3, raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    with pytest.raises(StateError):
        decode_field(EVERYWHERE, 3, raw[:-1])


def test_an_order_beyond_the_digits_is_refused() -> None:
    with pytest.raises(StateError):
        encode_field(EVERYWHERE, 0, Order(0, 10**16, 0), b"")


async def test_a_server_that_is_away_gives_an_error_in_time() -> None:
    away = config.Redis(url="redis://127.0.0.1:1/0", timeout_s=0.5)
    store = RedisContributionStore(away, RedisKeys("a", "b"))
    async with asyncio.timeout(5):
        with pytest.raises(ServerUnavailableError, match=r"127\.0\.0\.1:1/0: no connection"):
            await store.publish(0, [Change(EVERYWHERE, Order(0, 0, 0), b"")])
        with pytest.raises(ServerUnavailableError):
            await store.read([EVERYWHERE])
    await store.close()


async def test_a_server_that_does_not_answer_gives_an_error_in_time() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    mute = config.Redis(url=f"redis://{host}:{port}/0", timeout_s=0.2)
    store = RedisContributionStore(mute, RedisKeys("a", "b"))
    async with asyncio.timeout(5):
        with pytest.raises(ServerUnavailableError, match="no answer"):
            await store.read([EVERYWHERE])
    await store.close()
    server.close()
