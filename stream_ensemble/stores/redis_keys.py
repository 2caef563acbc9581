"""Every name this project uses in Redis is made here.

The braces are a Redis Cluster hash tag: what stands between them alone decides the slot. The hashes of an
ensemble are spread over shards, each with one tag and with markers of its own. A slot is on one node, so a
marker never outlives the fields it speaks for, wherever slots move.
"""

from __future__ import annotations

import zlib

from stream_ensemble.stores.contributions import Key

#: Shards of an ensemble in a Redis Cluster: over so many nodes at most its weights are spread. Each flush
#: writes a marker into every one of them.
CLUSTER_SHARDS = 8
_EVERYWHERE = "*"


class RedisKeys:
    """Names for one ensemble of one deployment.

    Args:
        app: the deployment's name (``Settings.app``); two deployments can share one Redis.
        ensemble: the ensemble's name.
        shards: how many; one unless Redis is a cluster.
    """

    def __init__(self, app: str, ensemble: str, shards: int = 1) -> None:
        self._app = app
        self._prefix = f"{app}:{ensemble}"
        self._names = app, ensemble
        self.shards = shards

    def spread(self, shards: int) -> RedisKeys:
        """The same names over another number of shards."""
        return RedisKeys(*self._names, shards)

    def shard(self, key: Key) -> int:
        """Where the hash of ``key`` stands, 0..shards - 1."""
        return zlib.crc32(_place(key).encode()) % self.shards

    def weights(self, key: Key) -> str:
        """Hash of one (task, segment); field ``p`` holds the contribution of partition p."""
        return f"{self._tag(self.shard(key))}:weights:{_place(key)}"

    def markers(self, shard: int = 0) -> str:
        """Hash of the owners' markers in one shard; field ``p`` holds that of partition p."""
        return f"{self._tag(shard)}:markers"

    def cold(self, shard: int = 0) -> str:
        """Hash of the cold segments of one shard by :meth:`place`; the values are their marks."""
        return f"{self._tag(shard)}:cold"

    def wanted(self, shard: int = 0) -> str:
        """Hash of the segments of one shard, by :meth:`place`, that are to be brought back."""
        return f"{self._tag(shard)}:wanted"

    @staticmethod
    def place(key: Key) -> str:
        """Names ``key`` among all of an ensemble."""
        return _place(key)

    def changed(self) -> str:
        """Pub/sub channel on which an owner says its partition's number after it has published."""
        return f"{{{self._prefix}}}:changed"

    def pattern(self) -> str:
        """What all names of the deployment match, as an ACL writes it."""
        return f"{{{self._app}:*"

    def _tag(self, shard: int) -> str:
        return f"{{{self._prefix}:{shard}}}"


def segment_at(place: bytes) -> Key | None:
    """The segment whose ``RedisKeys.place`` this is; None: it is none of ours."""
    task, equals, segment = place.decode(errors="replace").partition(":=")
    return Key(task, segment) if equals else None


def _place(key: Key) -> str:
    # A task is an identifier and so holds no colon: "*" and "=name" cannot be taken for each other.
    return f"{key.task}:{_EVERYWHERE if key.segment is None else f'={key.segment}'}"
