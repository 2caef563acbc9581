"""Many records that differ in their numbers only, from one template; compiled where that is there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
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


class Vector(NamedTuple):
    """A gap for vector ``place`` of the ``width`` that ``Vectors`` have for each record.

    Gaps ask for them in that order.
    """

    place: int


Field = Given | Integers | Chosen | Vector


class Vectors(NamedTuple):
    """R x ``width`` vectors of numbers as JSON, ``[[..],[..],..]``."""

    written: bytes
    width: int


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


def filled(form: Template, fields: Sequence[Field], n: int, vectors: Vectors) -> list[bytes]:
    """N records."""
    if compiled.AVAILABLE:
        return compiled.writing.fill(form.pieces, list(map(_column, fields)), n, vectors.written)
    return filled_plainly(form, fields, vectors)


def filled_plainly(form: Template, fields: Sequence[Field], vectors: Vectors) -> list[bytes]:
    """The same without the kernel."""
    cut = vectors.written[2:-2].split(b"],[")
    columns = [_values(field, cut, vectors.width) for field in fields]
    text = form.text
    return [text % values for values in zip(*columns, strict=True)]


def _column(field: Field) -> Any:
    writing = compiled.writing
    match field:
        case Given(texts):
            return writing.given(texts)
        case Integers(numbers):
            return writing.integers(numbers)
        case Chosen(texts, which):
            return writing.chosen(texts, which)
        case Vector():
            return writing.vector()


def _values(field: Field, cut: list[bytes], width: int) -> Sequence[object]:
    match field:
        case Given(texts):
            return texts
        case Integers(numbers):
            values: list[int] = numbers.tolist()
            return values
        case Chosen(texts, which):
            return [texts[each] for each in which.tolist()]
        case Vector(place):
            return cut[place::width]
