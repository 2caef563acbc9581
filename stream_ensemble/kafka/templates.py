"""Many records that differ in their numbers only, from one template; compiled where that is there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from stream_ensemble import compiled

_GAP: Final = re.compile(rb"%([bd%])")


class Given(NamedTuple):
    """A gap for one of R texts."""

    texts: list[bytes]


class Integers(NamedTuple):
    """A gap for one of R integers."""

    numbers: NDArray[np.int64]


class Chosen(NamedTuple):
    """A gap for the text that each of R numbers names."""

    texts: list[bytes]
    which: NDArray[np.int64]


class Vectors(NamedTuple):
    """A gap for one of R vectors of numbers, with commas between them. Shape: R x V."""

    each: NDArray[np.float64]


Field = Given | Integers | Chosen | Vectors


@dataclass(frozen=True, slots=True)
class Template:
    """What R records have in common: bytes with a gap for each field, ``%b``, or ``%d`` for integers."""

    text: bytes
    pieces: list[bytes]


def template(text: bytes) -> Template:
    """``text`` with its pieces between the gaps; ``%%`` stands for itself."""
    pieces = [b""]
    begin = 0
    for gap in _GAP.finditer(text):
        pieces[-1] += text[begin : gap.start()]
        begin = gap.end()
        if gap[1] == b"%":
            pieces[-1] += b"%"
        else:
            pieces.append(b"")
    pieces[-1] += text[begin:]
    return Template(text, pieces)


def filled(form: Template, fields: Sequence[Field], n: int) -> list[bytes]:
    """N records."""
    if compiled.AVAILABLE:
        return compiled.writing.fill(form.pieces, list(map(_column, fields)), n)
    return filled_plainly(form, fields)


def filled_plainly(form: Template, fields: Sequence[Field]) -> list[bytes]:
    """The same without the kernel."""
    texts = iter(_texts([field.each for field in fields if isinstance(field, Vectors)]))
    columns = [next(texts) if isinstance(field, Vectors) else _values(field) for field in fields]
    text = form.text
    return [text % values for values in zip(*columns, strict=True)]


def _texts(vectors: list[NDArray[np.float64]]) -> list[list[bytes]]:
    """Each as JSON without brackets, all by one call."""
    if not vectors:
        return []
    together = np.stack(vectors, axis=1)
    n, width, values = together.shape
    written = orjson.dumps(together.reshape(n * width, values), option=orjson.OPT_SERIALIZE_NUMPY)
    cut = written[2:-2].split(b"],[")
    return [cut[i::width] for i in range(width)]


def _column(field: Field) -> Any:
    writing = compiled.writing
    match field:
        case Given(texts):
            return writing.given(texts)
        case Integers(numbers):
            return writing.integers(numbers)
        case Chosen(texts, which):
            return writing.chosen(texts, which)
        case Vectors(each):
            return writing.vectors(each)


def _values(field: Given | Integers | Chosen) -> Sequence[object]:
    match field:
        case Given(texts):
            return texts
        case Integers(numbers):
            values: list[int] = numbers.tolist()
            return values
        case Chosen(texts, which):
            return [texts[each] for each in which.tolist()]
