"""Loopback ports for embedded servers."""

from __future__ import annotations

import random
import socket

from stream_ensemble.embedded.errors import EmbeddedServerError

HOST = "127.0.0.1"
# Below the ports a kernel hands to outgoing connections, so that none of these takes a server's port
# while the server is down between two starts.
_RANGE = range(20_000, 32_000)
_ATTEMPTS = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do it: connections of a predecessor that are still closing do not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port on which nothing listens."""
    for _ in range(_ATTEMPTS):
        port = random.choice(_RANGE)
        if is_free(port):
            return port
    raise EmbeddedServerError(f"no free port found on {HOST} from {_RANGE.start} to {_RANGE.stop - 1}")


def require_free(port: int, server: str) -> None:
    """Refuses a port that ``server`` cannot listen on.

    Raises:
        EmbeddedServerError: the port is taken, or this user may not listen on it.
    """
    if not is_free(port):
        raise EmbeddedServerError(
            f"port {port} on {HOST} is taken, so {server} cannot start there: end what listens on it, "
            "or choose another port"
        )


def accepts_connections(port: int) -> bool:
    """Whether something listens on ``port``."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
