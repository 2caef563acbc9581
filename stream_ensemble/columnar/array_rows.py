"""A JSON record of arrays of which some element is wrong, row by row: the others are still used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from stream_ensemble.columnar.refusals import decoded
from stream_ensemble.columnar.rows import Wrong
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import UNREADABLE

T = TypeVar("T", bound=msgspec.Struct)
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
#: Fields that every row repeats, so they must not be long.
_SHARED = ("version", "kind", "member")
_LONGEST_SHARED = 4096
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


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
    originals = SingleRows(value, arrays)
    for place in range(len(originals)):
        try:
            rows.append(decoded(originals[place], decode))
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


class SingleRows:
    """Records of one row, cut on demand out of ``value``, a JSON object whose ``arrays`` hold one element a
    row; the first of them must be there. Fields nobody knows are left out.

    Raises:
        RecordError: ``missing-field``, ``wrong-field`` or ``wrong-length`` of a field as a whole.
    """

    def __init__(self, value: bytes, arrays: Sequence[str]) -> None:
        fields = {name: raw for name, raw in decoded(value, _decode).items() if bytes(raw).strip() != b"null"}
        if arrays[0] not in fields:
            raise RecordError("missing-field", f"Object missing required field `{arrays[0]}`")
        self._cut = {name: _elements(name, fields[name]) for name in arrays if name in fields}
        self._rows = len(self._cut[arrays[0]])
        for name, elements in self._cut.items():
            same_length(name, elements, self._rows)
        self._shared = {name: fields[name] for name in _SHARED if name in fields}
        for name, raw in self._shared.items():
            if len(bytes(raw)) > _LONGEST_SHARED:
                raise RecordError("wrong-field", f"{name}: {len(bytes(raw))} bytes")

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: int) -> bytes:
        return msgspec.json.encode(
            self._shared | {name: elements[row : row + 1] for name, elements in self._cut.items()}
        )


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
    except UNREADABLE as error:
        raise RecordError("wrong-field", f"{name}: {error}") from None
