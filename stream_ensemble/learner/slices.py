"""A chunk in slices, between which a flush may come: its records may have more rows than one flush takes."""

from __future__ import annotations

from collections.abc import Iterator

from stream_ensemble.kafka.chunks import Columns

#: About ten thousand labels, or as many fused records of a small ensemble.
_SLICE_BYTES = 1 << 20


def in_slices(
    columns: Columns, end: int, *, slice_bytes: int = _SLICE_BYTES
) -> Iterator[tuple[Columns, int]]:
    """Records in order, at least one slice.

    Args:
        columns: N records.
        end: the offset after them, which may be beyond the last one.
        slice_bytes: a slice ends with the record that makes it this large.

    Yields:
        The slice, and the offset after it.
    """
    begin, size = 0, 0
    for place, record in enumerate(columns.records):
        size += len(record.value or b"")
        if size >= slice_bytes and place + 1 < len(columns.records):
            yield _cut(columns, begin, place + 1), int(columns.offsets[place + 1])
            begin, size = place + 1, 0
    yield _cut(columns, begin, len(columns.records)), end


def _cut(columns: Columns, begin: int, end: int) -> Columns:
    return Columns(columns.records[begin:end], columns.offsets[begin:end], columns.appended[begin:end])
