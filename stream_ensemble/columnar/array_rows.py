"""A JSON record of arrays of which some element is wrong, row by row: the others are still used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from stream_ensemble.columnar.refusals import decoded
from stream_ensemble.columnar.rows import Wrong
from stream_ensemble.errors import RecordError

T = TypeVar("T", bound=msgspec.Struct)
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_NULL = b"null"


def read_arrays(
    value: bytes, decode: Callable[[bytes], T], arrays: Sequence[str], blank: Callable[[T], T]
) -> tuple[T, Wrong]:
    """The message ``value`` holds, and the rows that are wrong, for which blank ones stand in.

    Args:
        value: the JSON of one record.
        decode: decodes all of it, and refuses all of it.
        arrays: the message's fields that hold one element a row; the first is required.
        blank: makes a message of one row, like the one it is given.

    Raises:
        RecordError: the record as a whole cannot be read, or no row of it.
    """
    try:
        return decoded(value, decode), {}
    except RecordError as error:
        if error.reason != "wrong-field":
            raise
        everyones = error
    wrong: Wrong = {}
    rows: list[T | None] = []
    for place, original in enumerate(single_rows(value, arrays)):
        try:
            rows.append(decoded(original, decode))
        except RecordError as own:
            wrong[place] = own
            rows.append(None)
    good = next((row for row in rows if row is not None), None)
    if good is None:
        raise everyones
    filler = blank(good)
    filled = [filler if row is None else row for row in rows]
    together = {name: _gathered([getattr(row, name) for row in filled]) for name in arrays}
    return msgspec.structs.replace(good, **together), wrong


def _gathered(columns: list[list[Any] | None]) -> list[Any] | None:
    if not any(columns):
        return None
    return [None if column is None else column[0] for column in columns]


def single_rows(value: bytes, arrays: Sequence[str]) -> list[bytes]:
    """``value`` cut into records of one row.

    Args:
        value: a JSON object.
        arrays: its fields that hold one element a row; the first must be there.

    Raises:
        RecordError: ``missing-field``, ``wrong-field`` or ``wrong-length`` of an array as a whole.
    """
    fields = decoded(value, _decode)
    if arrays[0] not in fields:
        raise RecordError("missing-field", f"Object missing required field `{arrays[0]}`")
    cut: dict[str, list[msgspec.Raw]] = {}
    for name in arrays:
        if name in fields and bytes(fields[name]).strip() != _NULL:
            cut[name] = _elements(name, fields[name])
            same_length(name, cut[name], len(cut[arrays[0]]))
    rows = len(cut.get(arrays[0], ()))
    return [_row(fields, cut, row) for row in range(rows)]


def same_length(name: str, values: Sequence[Any] | None, rows: int) -> None:
    """Is there one value for each of the ``rows``?

    Raises:
        RecordError: ``wrong-length``.
    """
    if values is not None and len(values) != rows:
        raise RecordError("wrong-length", f"{name}: {len(values)} values for {rows} requests")


def _elements(name: str, array: msgspec.Raw) -> list[msgspec.Raw]:
    try:
        return _decode_array(array)
    except msgspec.ValidationError as error:
        raise RecordError("wrong-field", f"{name}: {error}") from None


def _row(fields: dict[str, msgspec.Raw], cut: dict[str, list[msgspec.Raw]], row: int) -> bytes:
    alone: dict[str, Any] = {
        name: cut[name][row : row + 1] if name in cut else fields[name] for name in fields
    }
    return msgspec.json.encode(alone)
