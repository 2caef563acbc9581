"""Every name this project uses in Redis is made here.

The braces are a Redis Cluster hash tag: what stands between them alone decides the slot.
"""

from __future__ import annotations

from stream_ensemble.stores.contributions import Key

_EVERYWHERE = "*"


class RedisKeys:
    """Names for one ensemble of one deployment.

    Args:
        app: the deployment's name (``Settings.app``); two deployments can share one Redis.
        ensemble: the ensemble's name.
    """

    def __init__(self, app: str, ensemble: str) -> None:
        self._prefix = f"{app}:{ensemble}"

    def weights(self, key: Key) -> str:
        """Hash of one (task, segment); field ``p`` holds the contribution of partition p."""
        # A task is an identifier and so holds no colon: "*" and "=name" cannot be taken for each other.
        segment = _EVERYWHERE if key.segment is None else f"={key.segment}"
        return f"{{{self._prefix}:{key.task}:{_safe(segment)}}}:weights"

    def markers(self) -> str:
        """Hash of the owners' markers; field ``p`` holds that of partition p."""
        return f"{{{self._prefix}}}:markers"

    def changed(self) -> str:
        """Pub/sub channel on which an owner says its partition's number after it has published."""
        return f"{{{self._prefix}}}:changed"


def _safe(segment: str) -> str:
    """A brace in a segment's name would end the hash tag early, so braces (and the escape) are escaped."""
    return segment.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
