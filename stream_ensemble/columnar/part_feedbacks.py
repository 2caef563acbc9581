"""Columnar feedback about parts of requests: a request may stand in many rows, in each with another part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble.columnar.array_rows import read_arrays
from stream_ensemble.columnar.feedback_batch import FeedbackBatch
from stream_ensemble.columnar.feedbacks import (
    FeedbacksHead,
    arrays_beside,
    batch_of,
    columns_beside,
    numbers_beside,
    wrong_beside,
)
from stream_ensemble.columnar.layout import Form
from stream_ensemble.columnar.reading import Columns
from stream_ensemble.columnar.rows import wrong_numbers
from stream_ensemble.columnar.writing import numbers, record, strings
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import PartFeedbackArrays, PartLabel

_FORM: Final = Form(
    FeedbacksHead,
    {
        "request_id": ("bytes", "text"),
        "part": ("<i4",),
        "value": ("<f8",),
        "at": ("<i8",),
        "revision": ("<i8",),
        "weight": ("<f8",),
    },
)
_decode: Final[Callable[[bytes], PartFeedbackArrays]] = msgspec.json.Decoder(PartFeedbackArrays).decode
_ARRAYS: Final = ("request_ids", "parts", "labels", "ats", "revisions", "weights")


def pack(batch: FeedbackBatch) -> bytes:
    """``batch``, all of whose parts are indices, as the binary value of one record. At least one row."""
    labels = _part_labels(batch)
    written = [
        numbers("part", np.array([label.part for label in labels], np.int32)),
        numbers("value", np.array([label.value for label in labels], np.float64)),
        *numbers_beside(batch),
        strings("request_id", batch.ids),
    ]
    return record(FeedbacksHead(version=1, kind="feedbacks", rows=len(batch), columns=[]), written)


def unpack(value: bytes) -> FeedbackBatch:
    """The rows of one binary value. Arrays are read-only and keep ``value`` alive.

    Raises:
        RecordError: the record as a whole cannot be read; rows that cannot be used stand in ``wrong``.
    """
    columns = Columns(value, _FORM)
    parts, values = _required(columns, "part"), _required(columns, "value")
    labels: list[Any] = list(map(PartLabel, parts.tolist(), values.tolist()))
    batch = FeedbackBatch(columns.strings("request_id"), labels, *columns_beside(columns))
    batch.wrong = wrong_beside(batch)
    batch.wrong |= wrong_numbers("part", parts, parts >= 0, "a class or horizon by its index from 0")
    batch.wrong |= wrong_numbers("value", values, np.isfinite(values), "a finite number")
    return batch


def _required(columns: Columns[FeedbacksHead], name: str) -> NDArray[Any]:
    found = columns.series(name)
    if found is None:
        raise RecordError("missing-field", f"no column {name}: labels of this task are each about a part")
    return found


def pack_arrays(batch: FeedbackBatch) -> bytes:
    """``batch`` as the JSON value of one record."""
    labels = _part_labels(batch)
    arrays = PartFeedbackArrays(
        version=1,
        kind="feedbacks",
        parts=[label.part for label in labels],
        labels=[label.value for label in labels],
        **arrays_beside(batch),
    )
    return msgspec.json.encode(arrays)


def unpack_arrays(value: bytes) -> FeedbackBatch:
    """The rows of one JSON value.

    Raises:
        RecordError: the record as a whole cannot be read; rows that cannot be used stand in ``wrong``.
    """
    return batch_of(value, read_arrays(value, _decode, _ARRAYS, _blank), _ARRAYS, _labels)


def _labels(arrays: PartFeedbackArrays) -> Iterable[PartLabel]:
    return map(PartLabel, arrays.parts, arrays.labels)


def _blank(like: PartFeedbackArrays) -> PartFeedbackArrays:
    return PartFeedbackArrays(
        version=1,
        kind="feedbacks",
        request_ids=[""],
        parts=[0],
        labels=[0.0],
        revisions=None if like.revisions is None else [0],
        weights=None if like.weights is None else [1.0],
    )


def _part_labels(batch: FeedbackBatch) -> list[PartLabel]:
    return [label for label in batch.labels if isinstance(label, PartLabel)]
