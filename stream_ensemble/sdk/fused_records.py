"""Fused records off the wire, single or columnar, as a consumer's loop sees them."""

from __future__ import annotations

import msgspec
from aiokafka import ConsumerRecord

from stream_ensemble.columnar import fuseds
from stream_ensemble.columnar.forms import form_of
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import FORMAT_COLUMNS, HEADER_CREDIT, UNREADABLE, Fused
from stream_ensemble.sdk.consuming import Record
from stream_ensemble.sdk.lookup import traceparent, traceparent_of


class FusedRecord(Fused, kw_only=True):
    """A fused record and where it stands. Its own fields have names no writer uses."""

    partition: int = msgspec.field(default=-1, name="@partition")
    offset: int = msgspec.field(default=-1, name="@offset")
    #: Its row in a columnar record, else 0.
    row: int = msgspec.field(default=0, name="@row")
    #: When Kafka appended it, milliseconds since the epoch.
    appended: int = msgspec.field(default=0, name="@appended")
    traceparent: str | None = msgspec.field(default=None, name="@traceparent")


_decode = msgspec.json.Decoder(FusedRecord).decode


def fused_rows(record: Record | ConsumerRecord) -> list[FusedRecord]:
    """The fused records in ``record``: one, or the rows of a columnar one.

    Raises:
        RecordError: this version cannot read it.
    """
    try:
        rows = _rows(record)
    except (*UNREADABLE, RecordError) as error:
        raise unreadable(record, error) from error
    for place, row in enumerate(rows):
        row.partition = record.partition
        row.offset = record.offset
        row.row = place
        row.appended = record.timestamp
    return rows


def unreadable(record: Record | ConsumerRecord, error: Exception) -> RecordError:
    """Says which record it was."""
    where = f"{record.topic}-{record.partition} at offset {record.offset}"
    return RecordError("unreadable", f"{where}: {error}")


def _rows(record: Record | ConsumerRecord) -> list[FusedRecord]:
    value = record.value or b""
    if form_of(record, [FORMAT_COLUMNS]) is None:
        alone = _decode(value)
        alone.traceparent = traceparent_of(record.headers)
        return [alone]
    batch = fuseds.unpack(value, dict(record.headers).get(HEADER_CREDIT))
    rows = fuseds.records(batch, FusedRecord)
    for place, trace in batch.traces.items():
        rows[place].traceparent = traceparent(trace)
    return rows
