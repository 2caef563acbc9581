"""The bytes of a columnar record: a JSON head, then one block of bytes for each column.

``schemas/columnar.md`` describes them for other languages. A head says nothing about single rows, so the
records of one publisher repeat it and its layout is kept; every size is checked against the value before
anything is read by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final, Generic, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from stream_ensemble.columnar.refusals import decoded, short
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import MOST_ROWS

MAGIC: Final = b"SEC1"
_PREFIX = 8
_ALIGNED = 8
#: Layouts kept, and the longest head whose layout is kept: hostile heads must not fill the memory.
KEPT: Final = 512
KEPT_BYTES: Final = 4096

Type = Literal["<f4", "<f8", "<i8", "<i4", "<u4", "<u2", "u1", "bytes", "text"]
#: Bytes of one number, or of one unit of width.
SIZES: Final[Mapping[str, int]] = {
    "<f4": 4, "<f8": 8, "<i8": 8, "<i4": 4, "<u4": 4, "<u2": 2, "u1": 1, "bytes": 1
}  # fmt: skip
#: Of a text column: where a row's bytes end.
END_BYTES: Final = 4


class Column(NamedTuple):
    """One column: ``width`` numbers or bytes a row, 0 for text."""

    name: str
    type: Type
    width: Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Head(Struct, kw_only=True, frozen=True):
    """What the head of every kind says. A kind narrows ``kind`` and adds its own fields."""

    version: Literal[1]
    kind: str
    rows: Annotated[int, Meta(ge=1, le=MOST_ROWS)]
    columns: Annotated[list[Column], Meta(max_length=64)]


H = TypeVar("H", bound=Head)
#: First byte and the one after the last, in the value.
Place = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Layout(Generic[H]):
    """A parsed head.

    Attributes:
        columns: by name.
        start: first byte of the first column.
        places: of each column, where no text makes that depend on the value.
        size: bytes of the whole value, where ``places`` are known.
    """

    head: H
    columns: dict[str, Column]
    start: int
    places: dict[str, Place] | None
    size: int


class Form(Generic[H]):
    """Reads the heads of one kind of columnar record.

    Args:
        head: the kind's head.
        known: the types a column of that name may have; other columns are skipped.
    """

    def __init__(self, head: type[H], known: Mapping[str, tuple[Type, ...]]) -> None:
        self._decode = msgspec.json.Decoder(head).decode
        self._known = known
        self._kept = lru_cache(KEPT)(self._parsed)

    def layout(self, value: bytes) -> Layout[H]:
        """The layout of ``value``, which may still be shorter or longer than it.

        Raises:
            RecordError: not a columnar record of this kind, or its head names impossible columns.
        """
        start = _PREFIX + int.from_bytes(value[4:_PREFIX], "little")
        if value[:4] != MAGIC or start > len(value) or start % _ALIGNED:
            raise _no_columns(value, start)
        head = value[_PREFIX:start]
        return self._kept(head) if start <= KEPT_BYTES else self._parsed(head)

    def _parsed(self, head: bytes) -> Layout[H]:
        said = decoded(head, self._decode)
        columns = {column.name: column for column in said.columns}
        if len(columns) < len(said.columns):
            raise RecordError("wrong-field", "columns: a name stands twice")
        for i, column in enumerate(said.columns):
            if (column.width == 0) is not (column.type == "text"):
                raise RecordError("wrong-field", f"columns[{i}]: width {column.width} of {column.type}")
            known = self._known.get(column.name)
            if known is not None and column.type not in known:
                raise RecordError("wrong-field", f"columns[{i}]: {column.name} is {column.type}, not {known}")
        start = _PREFIX + len(head)
        places, size = None, 0
        if not any(column.type == "text" for column in said.columns):
            places, size = _fixed_places(said, start)
        return Layout(said, columns, start, places, size)


def places_in(value: bytes, layout: Layout[H]) -> dict[str, Place]:
    """Where each column of ``value`` stands.

    Raises:
        RecordError: ``value`` is shorter or longer than its head says.
    """
    if layout.places is not None:
        places, size = layout.places, layout.size
    else:
        places, size = _walked_places(value, layout)
    if size != len(value):
        raise RecordError("damaged", f"{len(value)} bytes, its head says {size}")
    return places


def _fixed_places(head: Head, start: int) -> tuple[dict[str, Place], int]:
    places = {}
    stop = start
    for column in head.columns:
        begin = aligned(stop)
        stop = begin + head.rows * column.width * SIZES[column.type]
        places[column.name] = begin, stop
    return places, stop


def _walked_places(value: bytes, layout: Layout[H]) -> tuple[dict[str, Place], int]:
    rows = layout.head.rows
    places = {}
    stop = layout.start
    for column in layout.head.columns:
        begin = aligned(stop)
        if column.type == "text":
            stop = begin + rows * END_BYTES
            if stop > len(value):
                break
            stop += int.from_bytes(value[stop - END_BYTES : stop], "little")
        else:
            stop = begin + rows * column.width * SIZES[column.type]
        places[column.name] = begin, stop
    return places, stop


def aligned(stop: int) -> int:
    """Where the next column begins after one that ends before ``stop``."""
    return -(-stop // _ALIGNED) * _ALIGNED


def _no_columns(value: bytes, start: int) -> RecordError:
    if not value:
        return RecordError("empty-value", "the record has no value")
    if value[:4] != MAGIC:
        return RecordError("damaged", f"the value starts with {short(value[:4])}, not {MAGIC!r}")
    if start > len(value):
        return RecordError("damaged", f"{len(value)} bytes, its head alone ends at {start}")
    return RecordError("damaged", f"its head ends at {start}, which is no multiple of {_ALIGNED}")
