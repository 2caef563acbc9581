"""What reading any record has in common: what is refused and why, keys, headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble.columnar.refusals import decoded as decode
from stream_ensemble.columnar.refusals import short
from stream_ensemble.core.join.records import Predictions
from stream_ensemble.core.tasks.domain import Domain
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.chunks import UnreadableBatch
from stream_ensemble.messages import HEADER_FORWARDED, HEADER_TRACE, Forwarded

_decode_forwarded: Final = msgspec.json.Decoder(Forwarded).decode

__all__ = [
    "Expected",
    "Read",
    "Records",
    "Refused",
    "decode",
    "forwarded_from",
    "matching_key",
    "misrouted",
    "traces_of",
]


class Expected(NamedTuple):
    """What the predictions of one ensemble must be like.

    Attributes:
        number_of: number of each member, by name.
        topic_of: input topic index by member.
        domain: what their outputs may be.
    """

    number_of: Mapping[str, int]
    topic_of: NDArray[np.int64]
    domain: Domain

    @property
    def values(self) -> int:
        """Numbers per output."""
        return len(self.domain.names)

    def check_member(self, name: str, topic: int) -> None:
        """Does the member publish to this topic?

        Raises:
            RecordError: no, or there is no such member.
        """
        member = self.number_of.get(name)
        if member is None:
            raise RecordError("unknown-member", f"member: {short(name)} is not in this ensemble")
        if self.topic_of[member] != topic:
            raise RecordError("wrong-topic", f"member: {name} does not publish to this topic")


@dataclass(slots=True)
class Refused:
    """A record for the dead-letter topic.

    ``topic`` is the number of its input topic, where there are several; ``row`` its row, where the record it
    stood in has many.
    """

    record: Any
    offset: int
    appended: int
    error: RecordError
    topic: int = 0
    row: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.record, UnreadableBatch):
            self.error = self.record.error
        # The frames it was raised in hold all that was read with the record, until a collection finds them.
        self.error.__context__ = self.error.__cause__ = self.error.__traceback__ = None


class Records(Protocol):
    """Records (``key``, ``value``, ``headers``) by place; columnar ones are made when asked for."""

    def __getitem__(self, place: int, /) -> Any: ...


@dataclass(slots=True)
class Read:
    """Predictions that can be used, and the records they came from, in the same order."""

    rows: Predictions
    records: Records


def matching_key(key: bytes | None, request_id: str) -> bytes:
    """The request id as bytes; a null key is allowed, another key is not.

    Raises:
        RecordError: ``key-mismatch`` or an id that cannot be written as UTF-8.
    """
    try:
        written = request_id.encode()
    except UnicodeEncodeError:
        raise RecordError("wrong-field", "request_id: not valid Unicode") from None
    if key is not None and key != written:
        raise RecordError("key-mismatch", f"the key {short(key)} is not the request_id {short(request_id)}")
    return written


def forwarded_from(record: Any) -> Forwarded | None:
    """Where a forwarded record was first written; None for one that was not forwarded.

    Raises:
        RecordError: the header is there but cannot be read.
    """
    for name, value in record.headers:
        if name == HEADER_FORWARDED:
            try:
                return decode(value, _decode_forwarded)
            except RecordError as error:
                raise RecordError("wrong-header", f"header {HEADER_FORWARDED}: {error.detail}") from None
    return None


def misrouted() -> RecordError:
    """Why a record is not forwarded a second time."""
    return RecordError("misrouted", "it was forwarded once and still is not in its canonical partition")


def traces_of(records: Sequence[Any]) -> dict[int, bytes]:
    """Trace context by place."""
    return {
        row: value
        for row, record in enumerate(records)
        for name, value in record.headers
        if name == HEADER_TRACE and value
    }
