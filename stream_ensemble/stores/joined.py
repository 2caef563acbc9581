"""What a fuser knows of all contributions: only ever more, whatever Redis forgets. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stream_ensemble.stores.contributions import Key, Marker, Snapshot, Stored

_NONE: Mapping[int, Stored] = {}


class JoinedContributions:
    """The join of all snapshots seen so far: by key and partition, the contribution of the largest order.

    An absent field means "nothing learned" only where its owner's marker says that all its fields are
    there, or where the weights topic itself was read; until then the partition is ``unknown``.

    Args:
        partitions: P, the number of partitions (and so of owners).
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = frozenset(range(partitions))
        self._fields: dict[Key, dict[int, Stored]] = {}
        self._settled: dict[Key, set[int]] = {}
        self._log_read = False
        self._markers: Mapping[int, Marker] = {}

    @property
    def markers(self) -> Mapping[int, Marker]:
        """The markers of the last snapshot."""
        return self._markers

    @property
    def unmarked(self) -> frozenset[int]:
        """Partitions without a complete marker in the last snapshot: Redis may lack fields of these."""
        return self._partitions - {p for p, marker in self._markers.items() if marker.complete}

    def fields(self, key: Key) -> Mapping[int, Stored]:
        """The contributions to ``key`` by partition."""
        return self._fields.get(key, _NONE)

    def unknown(self, key: Key) -> frozenset[int]:
        """Partitions of which it is not known whether they contributed to ``key``."""
        if self._log_read:
            return frozenset()
        return self._partitions - self._settled.get(key, set()) - self.fields(key).keys()

    def take_snapshot(self, snapshot: Snapshot) -> set[Key]:
        """Join what was read from Redis; returns the keys of which more is known now."""
        self._markers = snapshot.markers
        complete = self._partitions - self.unmarked
        changed = set()
        for key, fields in snapshot.fields.items():
            settled = self._settled.setdefault(key, set())
            if not complete <= settled:
                settled |= complete
                changed.add(key)
            for partition, stored in fields.items():
                if partition in self._partitions and self._take(key, partition, stored):
                    changed.add(key)
        return changed

    def take_log(self, records: Iterable[tuple[Key, int, Stored]]) -> set[Key]:
        """Join the whole weights topic, read to its end; returns the keys with a new contribution."""
        changed = {key for key, partition, stored in records if self._take(key, partition, stored)}
        self._log_read = True
        return changed

    def _take(self, key: Key, partition: int, stored: Stored) -> bool:
        held = self._fields.setdefault(key, {})
        if partition in held and held[partition].order >= stored.order:
            return False
        held[partition] = stored
        return True
