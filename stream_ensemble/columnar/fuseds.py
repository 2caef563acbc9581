"""Columnar fused records: many requests that ended alike, for heavy readers of the fused topic."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble.columnar.fused_batch import FusedBatch, FusedsHead, shared
from stream_ensemble.columnar.fused_messages import records
from stream_ensemble.columnar.layout import Form
from stream_ensemble.columnar.reading import Columns
from stream_ensemble.columnar.refusals import decoded
from stream_ensemble.columnar.rows import wrong_ids
from stream_ensemble.columnar.writing import numbers, record, sparse, strings
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import CreditBlock

__all__ = ["FusedBatch", "FusedsHead", "pack", "pack_blocks", "records", "shared", "unpack"]

_FORM: Final = Form(
    FusedsHead,
    {
        "request_id": ("bytes", "text"),
        "at": ("<i8",),
        "output": ("<f8",),
        "component": ("<f4", "<f8"),
        "source_offset": ("<i8",),
        "source_row": ("<i4",),
        "weights": ("<f8",),
        "traceparent": ("text",),
    },
)
_decode_blocks: Final = msgspec.json.Decoder(dict[str, CreditBlock]).decode


def pack(batch: FusedBatch) -> bytes:
    """``batch``, which has at least one row, as the value of one record; its ``blocks`` go into the header
    ``HEADER_CREDIT``, see ``pack_blocks``.
    """
    n, A = len(batch), len(batch.head.members)
    own_weights = batch.weights is not None and batch.weights.ndim > 1 and A > 0
    written = [numbers("at", batch.at)]
    if batch.outputs is not None:
        written.append(numbers("output", batch.outputs))
    if A:
        written.append(numbers("component", batch.components.reshape(n, -1)))
        written.append(numbers("source_offset", batch.offsets))
    if batch.weights is not None and own_weights:
        written.append(numbers("weights", batch.weights))
    if A and batch.within is not None and batch.within.any():
        written.append(numbers("source_row", batch.within))
    written.append(strings("request_id", batch.ids))
    if batch.traces:
        written.append(sparse("traceparent", batch.traces, n))
    same = None if batch.weights is None or own_weights else tuple(batch.weights.ravel().tolist())
    return record(msgspec.structs.replace(batch.head, rows=n, weights=same), written)


def pack_blocks(blocks: dict[str, CreditBlock]) -> bytes:
    """Credit blocks as the value of the header ``HEADER_CREDIT``."""
    return msgspec.json.encode(blocks)


def unpack(value: bytes, blocks: bytes | None = None) -> FusedBatch:
    """The rows of one record. Arrays are read-only and keep ``value`` alive.

    Args:
        value: of the record.
        blocks: of its header ``HEADER_CREDIT``, None without it.

    Raises:
        RecordError: it cannot be read, which spoils all its rows: only fusers write this form.
    """
    columns = Columns(value, _FORM)
    head = columns.head
    A, C = len(head.members), len(head.classes)
    if len(head.topics) != A or (head.weights is not None and len(head.weights) != A):
        raise RecordError("wrong-field", f"members, topics, weights: expected {A} of each")
    at = columns.series("at")
    if at is None:
        raise RecordError("missing-field", "no column at")
    ids = columns.strings("request_id")
    for wrong in wrong_ids(ids).values():
        raise wrong
    outputs = None if head.status == "expired" else _block(columns, "output", C)
    weights = columns.numbers("weights")
    if weights is not None:
        weights = _block(columns, "weights", A)
    elif head.weights is not None:
        weights = np.array(head.weights, np.float64)
    return FusedBatch(
        head,
        ids,
        at,
        outputs,
        _block(columns, "component", A * C).reshape(head.rows, A, C),
        _block(columns, "source_offset", A),
        _block(columns, "source_row", A) if "source_row" in columns else None,
        weights,
        columns.sparse("traceparent"),
        None if blocks is None else decoded(blocks, _decode_blocks),
    )


def _block(columns: Columns[FusedsHead], name: str, width: int) -> NDArray[Any]:
    """A column of ``width`` numbers a row; absent where that is 0.

    Raises:
        RecordError: it is missing or has another width.
    """
    found = columns.numbers(name)
    if found is None and width:
        raise RecordError("missing-field", f"no column {name}")
    if found is None:
        return np.empty((columns.head.rows, 0))
    if found.shape[1] != width:
        raise RecordError("wrong-field", f"column {name}: {found.shape[1]} numbers a row, expected {width}")
    return found
