"""What was read from each shard of a cluster as one snapshot; a marker says no more than its least one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stream_ensemble.errors import StateError
from stream_ensemble.stores.contributions import Key, Marker, Order, Snapshot, Stored


def combined(shards: Sequence[Snapshot]) -> Snapshot:
    """One snapshot of all shards.

    A partition is complete if it is in every shard, up to the lowest of the orders there; without a marker in
    one of them it has none, because what that shard held is lost.
    """
    fields: dict[Key, Mapping[int, Stored]] = {}
    damaged: dict[tuple[Key | None, int], StateError] = {}
    highest: dict[int, Order] = {}
    cold: dict[Key, Mapping[int, Order]] = {}
    for shard in shards:
        fields.update(shard.fields)
        damaged.update(shard.damaged)
        cold.update(shard.cold)
        for partition, marker in shard.markers.items():
            highest[partition] = max(marker.order, highest.get(partition, marker.order))
    everywhere = set.intersection(*(set(shard.markers) for shard in shards))
    markers = {partition: _least([shard.markers[partition] for shard in shards]) for partition in everywhere}
    return Snapshot(fields, markers, damaged, highest, cold)


def _least(markers: Sequence[Marker]) -> Marker:
    return Marker(min(marker.order for marker in markers), all(marker.complete for marker in markers))
