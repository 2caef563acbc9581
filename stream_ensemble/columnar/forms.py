"""Which form the value of a Kafka record has, as its header says."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from stream_ensemble.columnar.refusals import short
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import HEADER_FORMAT


def has_form(record: Any) -> bool:
    """Does a header of the record (anything with ``headers``) say that it has rows?"""
    return any(name == HEADER_FORMAT for name, _ in record.headers)


def form_of(record: Any, known: Collection[bytes]) -> bytes | None:
    """The form of a record (anything with ``headers``); None: one JSON message.

    Raises:
        RecordError: ``wrong-header``: it is none of those ``known``.
    """
    for name, form in record.headers:
        if name != HEADER_FORMAT:
            continue
        if form not in known:
            expected = " or ".join(map(repr, known))
            raise RecordError(
                "wrong-header", f"header {HEADER_FORMAT}: {short(form or b'')}, expected {expected}"
            )
        return bytes(form)
    return None
