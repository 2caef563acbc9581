"""Columnar feedback: many labels in one record, binary or as JSON arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble.columnar.array_rows import SingleRows, read_arrays, same_length
from stream_ensemble.columnar.feedback_batch import FeedbackBatch
from stream_ensemble.columnar.layout import Form, Head
from stream_ensemble.columnar.reading import Columns
from stream_ensemble.columnar.rows import Wrong, wrong_ids, wrong_numbers, wrong_times
from stream_ensemble.columnar.writing import Written, numbers, record, strings
from stream_ensemble.core.join.records import NO_TIME
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import FORMAT_ARRAYS, FeedbackArrays, PartFeedbackArrays, PartLabel

_LARGEST_REVISION = 2**53
_LARGEST_WEIGHT = 1e6

__all__ = ["FeedbackBatch", "pack", "pack_arrays", "unpack", "unpack_arrays"]


class FeedbacksHead(Head, kw_only=True, frozen=True):
    """The head of columnar feedback."""

    kind: Literal["feedbacks"]


_FORM: Final = Form(
    FeedbacksHead,
    {
        "request_id": ("bytes", "text"),
        "label": ("<i4",),
        "at": ("<i8",),
        "revision": ("<i8",),
        "weight": ("<f8",),
    },
)


def pack(batch: FeedbackBatch) -> bytes:
    """``batch``, all of whose labels are indices, as the binary value of one record. At least one row."""
    written = [numbers("label", np.array(batch.labels, np.int32)), *numbers_beside(batch)]
    written.append(strings("request_id", batch.ids))
    return record(FeedbacksHead(version=1, kind="feedbacks", rows=len(batch), columns=[]), written)


def unpack(value: bytes) -> FeedbackBatch:
    """The rows of one binary value. Arrays are read-only and keep ``value`` alive.

    Raises:
        RecordError: the record as a whole cannot be read; rows that cannot be used stand in ``wrong``.
    """
    columns = Columns(value, _FORM)
    labels = columns.series("label")
    if labels is None:
        raise RecordError("missing-field", "no column label")
    batch = FeedbackBatch(columns.strings("request_id"), labels.tolist(), *columns_beside(columns))
    batch.wrong = wrong_beside(batch)
    batch.wrong |= wrong_numbers("label", labels, labels >= 0, "a class by its index from 0")
    return batch


#: Times, revisions and weights.
_Beside = tuple[NDArray[Any] | None, NDArray[Any] | None, NDArray[Any] | None]


def numbers_beside(batch: FeedbackBatch) -> list[Written]:
    """What is said of labels beside ids and what they say: times, revisions and weights, where given."""
    columns = (("at", batch.at), ("revision", batch.revisions), ("weight", batch.weights))
    return [numbers(name, column) for name, column in columns if column is not None]


def columns_beside(columns: Columns[FeedbacksHead]) -> _Beside:
    """The same, read."""
    return columns.series("at"), columns.series("revision"), columns.series("weight")


def wrong_beside(batch: FeedbackBatch) -> Wrong:
    """Rows whose id, or anything of the same, cannot be used."""
    wrong = wrong_ids(batch.ids)
    if batch.at is not None:
        wrong |= wrong_times(batch.at)
    if (revisions := batch.revisions) is not None:
        right = (revisions >= 0) & (revisions <= _LARGEST_REVISION)
        wrong |= wrong_numbers("revision", revisions, right, "0 to 2^53")
    if (weights := batch.weights) is not None:
        right = (weights > 0) & (weights <= _LARGEST_WEIGHT)
        wrong |= wrong_numbers("weight", weights, right, "above 0 and at most 1e6")
    return wrong


# --- JSON arrays ------------------------------------------------------------------------------------

_decode: Final[Callable[[bytes], FeedbackArrays]] = msgspec.json.Decoder(FeedbackArrays).decode
_ARRAYS: Final = ("request_ids", "labels", "ats", "revisions", "weights")


def pack_arrays(batch: FeedbackBatch) -> bytes:
    """``batch`` as the JSON value of one record."""
    arrays = FeedbackArrays(
        version=1,
        kind="feedbacks",
        labels=[label for label in batch.labels if not isinstance(label, PartLabel)],
        **arrays_beside(batch),
    )
    return msgspec.json.encode(arrays)


def unpack_arrays(value: bytes) -> FeedbackBatch:
    """The rows of one JSON value.

    Raises:
        RecordError: the record as a whole cannot be read; rows that cannot be used stand in ``wrong``.
    """
    return batch_of(
        value, read_arrays(value, _decode, _ARRAYS, _blank), _ARRAYS, lambda arrays: arrays.labels
    )


A = TypeVar("A", FeedbackArrays, PartFeedbackArrays)


def arrays_beside(batch: FeedbackBatch) -> dict[str, Any]:
    """What arrays say of labels beside what they say: ids, times, revisions and weights."""
    return {
        "request_ids": [request_id.decode() for request_id in batch.ids],
        "ats": None if batch.at is None else [None if at == NO_TIME else at for at in batch.at.tolist()],
        "revisions": _listed(batch.revisions),
        "weights": _listed(batch.weights),
    }


def batch_of(
    value: bytes, read: tuple[A, Wrong], names: Sequence[str], labels_of: Callable[[A], Iterable[Any]]
) -> FeedbackBatch:
    """The rows of arrays.

    Args:
        value: what they were read from.
        read: arrays, and what is wrong with some of their rows.
        names: of the fields that hold one element a row.
        labels_of: what the labels say, row by row.

    Raises:
        RecordError: one is not as long as the others.
    """
    arrays, wrong = read
    for name in names:
        same_length(name, getattr(arrays, name), len(arrays.request_ids))
    batch = FeedbackBatch(
        list(map(str.encode, arrays.request_ids)),
        list(labels_of(arrays)),
        None if arrays.ats is None else np.array([NO_TIME if at is None else at for at in arrays.ats]),
        None if arrays.revisions is None else np.array(arrays.revisions),
        None if arrays.weights is None else np.array(arrays.weights, np.float64),
        wrong,
        form=FORMAT_ARRAYS,
    )
    if wrong:
        originals = SingleRows(value, names)
        batch.originals = {row: originals[row] for row in wrong}
    return batch


def _blank(like: FeedbackArrays) -> FeedbackArrays:
    return FeedbackArrays(
        version=1,
        kind="feedbacks",
        request_ids=[""],
        labels=[0],
        revisions=None if like.revisions is None else [0],
        weights=None if like.weights is None else [1.0],
    )


def _listed(column: NDArray[Any] | None) -> list[Any] | None:
    """A column as JSON has it."""
    return None if column is None else column.tolist()
