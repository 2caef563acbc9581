"""A Kafka record as bytes, so that a label that waits for days can still go to dead-letter as it came."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from stream_ensemble.errors import StateError


class Original(NamedTuple):
    """Key, value and headers of a record as it was consumed."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Original).decode


def pack(record: Any) -> bytes:
    """The bytes to keep of ``record`` (anything with ``key``, ``value`` and ``headers``)."""
    return _encode((record.key, record.value, record.headers))


def unpack(packed: bytes) -> Original:
    """What ``pack`` kept.

    Raises:
        StateError: these bytes are not from ``pack``.
    """
    try:
        return _decode(packed)
    except msgspec.DecodeError as error:
        raise StateError(f"a kept record cannot be read: {error}") from error
