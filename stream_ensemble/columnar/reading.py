"""Columns out of a value whose layout is known."""

from __future__ import annotations

from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.columnar.layout import END_BYTES, Column, Form, H, Layout, Place, places_in
from stream_ensemble.errors import RecordError


class Columns(Generic[H]):
    """The R rows of one value. Arrays are read-only and keep the value alive.

    Raises:
        RecordError: the value is not of ``form``, or not as long as its head says.
    """

    def __init__(self, value: bytes, form: Form[H]) -> None:
        layout = form.layout(value)
        self.head: H = layout.head
        self._value = value
        self._layout: Layout[H] = layout
        self._places = places_in(value, layout)

    def __contains__(self, name: str) -> bool:
        return name in self._layout.columns

    def numbers(self, name: str) -> NDArray[Any] | None:
        """A number column, ``R x width``; None without it."""
        column = self._layout.columns.get(name)
        if column is None:
            return None
        begin, _ = self._places[name]
        rows = self.head.rows
        return np.frombuffer(self._value, column.type, rows * column.width, begin).reshape(rows, column.width)

    def series(self, name: str) -> NDArray[Any] | None:
        """A number column of one number a row, R; None without it.

        Raises:
            RecordError: another width.
        """
        found = self.numbers(name)
        if found is None:
            return None
        if found.shape[1] != 1:
            raise RecordError("wrong-field", f"column {name}: {found.shape[1]} numbers a row, expected 1")
        return found[:, 0]

    def strings(self, name: str) -> list[bytes]:
        """A column of bytes or text, one string of bytes a row.

        Raises:
            RecordError: the column is missing or its ends are out of order.
        """
        column = self._layout.columns.get(name)
        if column is None:
            raise RecordError("missing-field", f"no column {name}")
        begin, stop = self._places[name]
        if column.type == "bytes":
            return rows_of_bytes(self._value[begin:stop], column.width)
        ends = self._ends(column, (begin, stop)).tolist()
        text = self._value[begin + self.head.rows * END_BYTES : stop]
        return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def sparse(self, name: str) -> dict[int, bytes]:
        """The strings of a text column that are not empty, by row; none without it.

        Raises:
            RecordError: its ends are out of order.
        """
        column = self._layout.columns.get(name)
        if column is None:
            return {}
        begin, stop = self._places[name]
        ends = self._ends(column, (begin, stop))
        text = self._value[begin + self.head.rows * END_BYTES : stop]
        starts = np.concatenate((ends[:1] * 0, ends[:-1]))
        rows = np.flatnonzero(ends > starts)
        spans = zip(rows.tolist(), starts[rows].tolist(), ends[rows].tolist(), strict=True)
        return {row: text[a:b] for row, a, b in spans}

    def _ends(self, column: Column, place: Place) -> NDArray[np.uint32]:
        ends = np.frombuffer(self._value, "<u4", self.head.rows, place[0])
        if (ends[1:] < ends[:-1]).any():
            raise RecordError("damaged", f"column {column.name}: a row ends before it begins")
        return ends


def rows_of_bytes(block: bytes, width: int) -> list[bytes]:
    """``block`` cut every ``width`` bytes."""
    # A void and not a bytes dtype: that one drops trailing zero bytes.
    rows: list[bytes] = np.frombuffer(block, f"V{width}").tolist()
    return rows
