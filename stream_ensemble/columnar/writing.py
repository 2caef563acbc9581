"""A value out of columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble.columnar.layout import MAGIC, Column, Head, Type, aligned


class Written(NamedTuple):
    """A column and its bytes."""

    column: Column
    block: bytes


def numbers(name: str, values: NDArray[Any]) -> Written:
    """A number column of ``values``, R or ``R x width``."""
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    width = 1 if values.ndim == 1 else values.shape[1]
    return Written(Column(name, cast("Type", little.dtype.str.lstrip("|")), width), little.tobytes())


def strings(name: str, values: Sequence[bytes]) -> Written:
    """A column of R strings: fixed bytes where they are equally long, else text."""
    lengths = set(map(len, values))
    if len(lengths) == 1 and (width := lengths.pop()):
        return Written(Column(name, "bytes", width), b"".join(values))
    return _text(name, values)


def sparse(name: str, values: Mapping[int, bytes], rows: int) -> Written:
    """A text column of ``rows`` rows, empty where ``values`` has none."""
    return _text(name, [values.get(row, b"") for row in range(rows)])


def record(head: Head, written: Sequence[Written]) -> bytes:
    """The value of a record; ``head`` comes without its columns, which it is given here."""
    said = msgspec.json.encode(msgspec.structs.replace(head, columns=[column for column, _ in written]))
    said += b" " * (aligned(len(said)) - len(said))
    parts = [MAGIC, len(said).to_bytes(4, "little"), said]
    padding = 0
    for _, block in written:
        parts += [bytes(padding), block]
        padding = aligned(len(block)) - len(block)
    return b"".join(parts)


def _text(name: str, values: Sequence[bytes]) -> Written:
    ends = np.fromiter(accumulate(map(len, values)), "<u4", len(values))
    return Written(Column(name, "text", 0), ends.tobytes() + b"".join(values))
