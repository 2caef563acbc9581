"""Batches into columnar records: one for each partition that has rows, more where one would be too large."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol, Self, TypeVar

import numpy as np

from stream_ensemble.core.partitioning import partitions_of
from stream_ensemble.messages import FORMAT_ARRAYS, FORMAT_COLUMNS, HEADER_FORMAT
from stream_ensemble.sdk.errors import InvalidInputError
from stream_ensemble.sdk.producing import LARGEST_RECORD_BYTES, Record

#: How a publisher writes: a JSON record each, or many rows a record, as binary columns or as JSON arrays.
Wire = Literal["json", "columns", "arrays"]
#: How a batch may be written.
BatchWire = Literal["columns", "arrays"]
#: A record is released by its reader only when its last row is, so it should not be without end.
MOST_ROWS = 4096

_HEADERS = {
    "columns": [(HEADER_FORMAT, FORMAT_COLUMNS)],
    "arrays": [(HEADER_FORMAT, FORMAT_ARRAYS)],
}


class Batch(Protocol):
    """Rows with request ids, as columns."""

    @property
    def ids(self) -> list[bytes]: ...
    def __len__(self) -> int: ...
    def take(self, rows: Sequence[int], /) -> Self: ...


B = TypeVar("B", bound=Batch)


def records_of(batch: B, pack: Callable[[B], bytes], wire: BatchWire, partitions: int) -> list[Record]:
    """The columnar records of ``batch``, each for one partition; rows keep their order within it.

    Raises:
        InvalidInputError: a row alone is larger than a record may be, or there is no such form.
    """
    if wire not in _HEADERS:
        raise InvalidInputError(f"wire {wire!r}: expected {' or '.join(map(repr, _HEADERS))}")
    placed = partitions_of(batch.ids, partitions)
    records = []
    for partition in np.unique(placed).tolist():
        rows: list[int] = np.flatnonzero(placed == partition).tolist()
        for start in range(0, len(rows), MOST_ROWS):
            some = batch.take(rows[start : start + MOST_ROWS])
            records += [Record(None, value, _HEADERS[wire], partition) for value in _values(some, pack)]
    return records


def _values(batch: B, pack: Callable[[B], bytes]) -> Iterator[bytes]:
    value = pack(batch)
    n = len(batch)
    if len(value) <= LARGEST_RECORD_BYTES:
        yield value
    elif n == 1:
        raise InvalidInputError(
            f"request {batch.ids[0]!r}: {len(value)} bytes, at most {LARGEST_RECORD_BYTES} fit a record"
        )
    else:
        yield from _values(batch.take(range(n // 2)), pack)
        yield from _values(batch.take(range(n // 2, n)), pack)
