"""Shards of a cluster as one snapshot: complete only where every shard is, up to the lowest order."""

from __future__ import annotations

from stream_ensemble.errors import StateError
from stream_ensemble.stores.contributions import Key, Marker, Order, Snapshot, Stored
from stream_ensemble.stores.redis_keys import CLUSTER_SHARDS, RedisKeys
from stream_ensemble.stores.shards import combined

NORTH, SOUTH = Key("class", "north"), Key("class", "south")
LOW, HIGH = Order(0, 1, 1), Order(0, 1, 2)


def test_the_least_marker_counts_and_the_largest_order_is_told() -> None:
    first = Snapshot({NORTH: {0: Stored(HIGH, b"n")}}, {0: Marker(HIGH, True), 1: Marker(LOW, True)})
    second = Snapshot({SOUTH: {}}, {0: Marker(LOW, True), 1: Marker(LOW, False)})
    both = combined([first, second])
    assert both.fields == {NORTH: {0: Stored(HIGH, b"n")}, SOUTH: {}}
    assert both.markers == {0: Marker(LOW, True), 1: Marker(LOW, False)}
    assert both.highest == {0: HIGH, 1: LOW}
    assert both.largest() == HIGH


def test_a_partition_without_a_marker_in_one_shard_has_none() -> None:
    damage = StateError("damaged")
    lost = Snapshot({}, {}, {(None, 0): damage})
    both = combined([Snapshot({}, {0: Marker(HIGH, True)}), lost])
    assert both.markers == {}
    assert both.damaged == {(None, 0): damage}
    assert both.largest() == HIGH, "a larger one elsewhere still says that another owner was there"


def test_one_shard_is_itself() -> None:
    only = Snapshot({NORTH: {}}, {3: Marker(LOW, True)})
    assert combined([only]).markers == only.markers


def test_names_stay_in_their_shard_whatever_the_segment_is_called() -> None:
    keys = RedisKeys("app", "digits", CLUSTER_SHARDS)
    for segment in ("a}b", "{", "", "=*", "*", ":", "ü"):
        key = Key("class", segment)
        tag = keys.weights(key).split("}")[0]
        assert keys.markers(keys.shard(key)).startswith(tag + "}")
    spread = {keys.shard(Key("class", f"segment {n}")) for n in range(200)}
    assert spread == set(range(CLUSTER_SHARDS))
    assert {keys.spread(1).shard(Key("class", f"segment {n}")) for n in range(200)} == {0}
