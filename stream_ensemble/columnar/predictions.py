"""Columnar predictions: the binary form. ``prediction_arrays`` has the JSON form, whose functions stand here
too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.columnar.layout import Form, Head, Layout, Place
from stream_ensemble.columnar.prediction_arrays import pack_arrays, unpack_arrays
from stream_ensemble.columnar.prediction_batch import PredictionBatch
from stream_ensemble.columnar.reading import Columns, rows_of_bytes
from stream_ensemble.columnar.rows import (
    LONGEST_ID,
    LONGEST_NAME,
    Wrong,
    wrong_ids,
    wrong_numbers,
    wrong_texts,
    wrong_times,
)
from stream_ensemble.columnar.writing import numbers, record, sparse, strings
from stream_ensemble.core.join.records import NO_TIME, Answer
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import FORMAT_ARRAYS, Name

__all__ = ["PredictionBatch", "pack", "pack_arrays", "row", "unpack", "unpack_all", "unpack_arrays"]


class PredictionsHead(Head, kw_only=True, frozen=True):
    """The head of columnar predictions."""

    kind: Literal["predictions"]
    member: Name


_FORM: Final = Form(
    PredictionsHead,
    {
        "request_id": ("bytes", "text"),
        "output": ("<f4", "<f8"),
        "at": ("<i8",),
        "answer": ("u1",),
        "error": ("text",),
        "segment": ("text",),
        "traceparent": ("text",),
    },
)
#: Columns that ``unpack_all`` leaves to ``unpack``.
_UNUSUAL: Final = frozenset({"answer", "error", "segment", "traceparent"})


def pack(batch: PredictionBatch) -> bytes:
    """``batch`` as the value of one record. It has at least one row; ``wrong`` is not looked at."""
    n = len(batch)
    written = []
    if batch.outputs.shape[1]:
        written.append(numbers("output", batch.outputs))
    if batch.at is not None and (batch.at != NO_TIME).any():
        written.append(numbers("at", batch.at.astype(np.int64, copy=False)))
    if batch.answers is not None and batch.answers.any():
        written.append(numbers("answer", batch.answers))
    written.append(strings("request_id", batch.ids))
    if batch.errors:
        written.append(sparse("error", _bytes(batch.errors), n))
    if batch.segments:
        written.append(sparse("segment", _bytes(batch.segments), n))
    if batch.traces:
        written.append(sparse("traceparent", batch.traces, n))
    head = PredictionsHead(version=1, kind="predictions", member=batch.member, rows=n, columns=[])
    return record(head, written)


def unpack(value: bytes) -> PredictionBatch:
    """The rows of one binary value. Arrays are read-only and keep ``value`` alive.

    Raises:
        RecordError: the record as a whole cannot be read; rows that cannot be used stand in ``wrong``.
    """
    columns = Columns(value, _FORM)
    n = columns.head.rows
    outputs = columns.numbers("output")
    texts = {name: columns.sparse(name) for name in ("error", "segment", "traceparent")}
    batch = PredictionBatch(
        columns.head.member,
        columns.strings("request_id"),
        np.empty((n, 0)) if outputs is None else outputs,
        columns.series("at"),
        columns.series("answer"),
        _texts(texts["error"]),
        _texts(texts["segment"]),
        texts["traceparent"],
    )
    batch.wrong = _wrong(batch, texts)
    return batch


def row(batch: PredictionBatch, r: int) -> bytes:
    """Row ``r`` alone, packed in the form the batch was read from."""
    if r in batch.originals:
        return batch.originals[r]
    alone = batch.take([r])
    return pack_arrays(alone) if batch.form == FORMAT_ARRAYS else pack(alone)


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
        layouts = list(map(_FORM.layout, values))
    except RecordError:
        return None
    spans: dict[Layout[PredictionsHead], _Span] = {}
    for layout in set(layouts):
        span = _span(layout)
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


@lru_cache(512)
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


def _wrong(batch: PredictionBatch, texts: dict[str, dict[int, bytes]]) -> Wrong:
    wrong = wrong_ids(batch.ids)
    if batch.at is not None:
        wrong |= wrong_times(batch.at)
    if batch.answers is not None:
        known = batch.answers <= max(Answer)
        wrong |= wrong_numbers("answer", batch.answers, known, "0 output, 1 abstain or 2 error")
    if not batch.outputs.shape[1]:
        wrong |= _without_output(batch)
    wrong |= wrong_texts("error", texts["error"], None)
    wrong |= wrong_texts("segment", texts["segment"], LONGEST_NAME)
    return wrong


def _without_output(batch: PredictionBatch) -> Wrong:
    error = RecordError("missing-field", "no column output")
    answers = batch.answers
    return {r: error for r in range(len(batch)) if answers is None or answers[r] == Answer.OUTPUT}


# What is no UTF-8 keeps its bytes, so that the row can be written as it was.
def _texts(texts: dict[int, bytes]) -> dict[int, str]:
    return {row: text.decode("utf-8", "surrogateescape") for row, text in texts.items()}


def _bytes(texts: dict[int, str]) -> dict[int, bytes]:
    return {row: text.encode("utf-8", "surrogateescape") for row, text in texts.items()}
