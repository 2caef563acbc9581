"""A Kafka record as bytes, so that a label that waits for days can still go to dead-letter as it came.

Of a label among the rows of a columnar record that is a record of its row alone, in the same form: its
neighbours may be thousands, and have a fate of their own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from stream_ensemble.columnar.feedback_batch import FeedbackBatch
from stream_ensemble.columnar.feedback_row import row as packed_row
from stream_ensemble.errors import StateError
from stream_ensemble.kafka.chunks import Row
from stream_ensemble.messages import UNREADABLE


class Original(NamedTuple):
    """Key, value and headers of a record as it was consumed."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Original).decode


def row_of(record: Any, batch: FeedbackBatch, row: int) -> Any:
    """Row ``row`` of ``record``, which holds ``batch``, as a record of its own."""
    # What has one row already is left as it is, down to the byte.
    return record if len(batch) == 1 else Row(None, packed_row(batch, row), list(record.headers))


def pack(record: Any) -> bytes:
    """The bytes to keep of ``record`` (anything with ``key``, ``value`` and ``headers``)."""
    return _encode((record.key, record.value, record.headers))


def pack_row(record: Any, batch: FeedbackBatch, row: int) -> bytes:
    """The same of a row."""
    return pack(row_of(record, batch, row))


def unpack(packed: bytes) -> Original:
    """What ``pack`` kept.

    Raises:
        StateError: these bytes are not from ``pack``.
    """
    try:
        return _decode(packed)
    except UNREADABLE as error:
        raise StateError(f"a kept record cannot be read: {error}") from error
