"""Many values of columnar predictions at once: the fast path of whoever reads a chunk of the log."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.columnar.layout import KEPT, KEPT_BYTES, Layout, Place
from stream_ensemble.columnar.prediction_form import FORM, PredictionsHead
from stream_ensemble.columnar.reading import rows_of_bytes
from stream_ensemble.columnar.rows import LONGEST_ID, wrong_times
from stream_ensemble.errors import RecordError

#: Columns that ``unpack_all`` leaves to ``unpack``.
_UNUSUAL: Final = frozenset({"answer", "error", "segment", "traceparent"})


class Together(NamedTuple):
    """The rows of V values of one member, one after the other: N ids, ``N x C`` outputs, N times or None, and
    the rows of each value (V). Every row's id and time are right; the outputs are unchecked.
    """

    member: str
    ids: list[bytes]
    outputs: NDArray[np.floating[Any]]
    at: NDArray[np.int64] | None
    rows: NDArray[np.int64]


def unpack_all(values: Sequence[bytes]) -> Together | None:
    """All rows of ``values`` at once; None when anything is unusual, so that they are read one by one.

    Usual are values of one member, with the same columns, of which none is a text, with an output and a right
    id in ASCII in every row, and nothing else said of a row than its time.
    """
    if not values:
        return None
    try:
        layouts = list(map(FORM.layout, values))
    except RecordError:
        return None
    spans: dict[Layout[PredictionsHead], _Span] = {}
    for layout in set(layouts):
        # A long head is not kept, and its span would keep it.
        span = _span(layout) if layout.start <= KEPT_BYTES else None
        if span is None:
            return None
        spans[layout] = span
    if len({span.kind for span in spans.values()}) != 1:
        return None
    ids, outputs, at, rows = [], [], [], []
    for value, layout in zip(values, layouts, strict=True):
        if len(value) != layout.size:
            return None
        _, n, (a, b), (c, d), (e, f) = spans[layout]
        rows.append(n)
        ids.append(value[a:b])
        outputs.append(value[c:d])
        at.append(value[e:f])
    return _joined(spans[layouts[0]].kind, b"".join(ids), b"".join(outputs), b"".join(at), rows)


class _Kind(NamedTuple):
    """What the values of one call have in common."""

    member: str
    id_width: int
    output_type: str
    classes: int
    timed: bool


class _Span(NamedTuple):
    """Where the columns of a usual value stand; ``at`` is empty where there is none."""

    kind: _Kind
    rows: int
    ids: Place
    outputs: Place
    at: Place


@lru_cache(KEPT)
def _span(layout: Layout[PredictionsHead]) -> _Span | None:
    columns, places = layout.columns, layout.places
    if places is None or columns.keys() & _UNUSUAL or not {"request_id", "output"} <= columns.keys():
        return None
    timed = "at" in columns
    if columns["request_id"].width > LONGEST_ID or (timed and columns["at"].width != 1):
        return None
    output = columns["output"]
    kind = _Kind(layout.head.member, columns["request_id"].width, output.type, output.width, timed)
    return _Span(kind, layout.head.rows, places["request_id"], places["output"], places.get("at", (0, 0)))


def _joined(kind: _Kind, ids: bytes, outputs: bytes, times: bytes, rows: list[int]) -> Together | None:
    if not ids.isascii():
        return None
    at = np.frombuffer(times, "<i8") if kind.timed else None
    if at is not None and wrong_times(at):
        return None
    block = np.frombuffer(outputs, kind.output_type).reshape(-1, kind.classes)
    return Together(kind.member, rows_of_bytes(ids, kind.id_width), block, at, np.array(rows, np.int64))
