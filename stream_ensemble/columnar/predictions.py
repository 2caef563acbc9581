"""Columnar predictions: the binary form, and by name the JSON form and the fast path for many values."""

from __future__ import annotations

import numpy as np

from stream_ensemble.columnar.prediction_arrays import pack_arrays, unpack_arrays
from stream_ensemble.columnar.prediction_batch import PredictionBatch
from stream_ensemble.columnar.prediction_chunks import Together, unpack_all
from stream_ensemble.columnar.prediction_form import FORM, PredictionsHead
from stream_ensemble.columnar.reading import Columns
from stream_ensemble.columnar.rows import (
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
from stream_ensemble.messages import FORMAT_ARRAYS

__all__ = [
    "PredictionBatch",
    "Together",
    "pack",
    "pack_arrays",
    "row",
    "unpack",
    "unpack_all",
    "unpack_arrays",
]


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
    columns = Columns(value, FORM)
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
