"""What ``redis.url`` says: which nodes to ask first, whether by TLS, and whether they are a cluster."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

DEFAULT_PORT = 6379


class Node(NamedTuple):
    """One server of a Redis Cluster."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def speaks_tls(url: str) -> bool:
    """Whether the URL asks for TLS."""
    return url.startswith(("rediss:", "rediss+cluster:"))


def is_cluster(url: str) -> bool:
    """Whether the URL names nodes of a Redis Cluster."""
    return url.startswith(("redis+cluster:", "rediss+cluster:"))


def nodes(url: str) -> tuple[Node, ...]:
    """The nodes a ``redis+cluster://`` URL names.

    Raises:
        ValueError: one of them has no host, or a port that is none.
    """
    return tuple(_node(address) for address in urlsplit(url).netloc.split(","))


def _node(address: str) -> Node:
    parts = urlsplit(f"//{address}")
    if not parts.hostname or parts.port == 0:
        raise ValueError(f"{address!r} is not host:port")
    return Node(parts.hostname, parts.port or DEFAULT_PORT)
