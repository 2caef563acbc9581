"""The error of the servers this package starts itself."""

from __future__ import annotations

from stream_ensemble.errors import ServerUnavailableError


class EmbeddedServerError(ServerUnavailableError):
    """An embedded Kafka or Redis cannot run here. One line: what is wrong and what to do about it."""

    retriable = False
