"""Columnar fused records: many requests that ended alike, for heavy readers of the fused topic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import repeat
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from stream_ensemble.columnar.layout import Form, Head
from stream_ensemble.columnar.reading import Columns
from stream_ensemble.columnar.refusals import decoded
from stream_ensemble.columnar.rows import wrong_ids
from stream_ensemble.columnar.writing import numbers, record, sparse, strings
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import (
    Asleep,
    Cause,
    Credit,
    CreditBlock,
    Fused,
    Name,
    Partition,
    Source,
    Status,
    WeightsVersion,
)

F = TypeVar("F", bound=Fused)


class FusedsHead(Head, kw_only=True, frozen=True, omit_defaults=True):
    """What R fused records share. The fields of ``messages.Fused`` mean what they mean there.

    Attributes:
        members: the A members awake, in the order of the columns.
        topics: where each one's predictions stand, all in ``partition``.
        classes: the C classes.
        weights: the A weights, where all rows have the same.
        credit: digests only; the blocks stand in a header of the record.
    """

    kind: Literal["fuseds"]
    status: Status
    cause: Cause | None = None
    segment: Name | None = None
    members: tuple[Name, ...] = ()
    topics: tuple[str, ...] = ()
    partition: Partition
    classes: Annotated[tuple[str, ...], Meta(min_length=1)]
    asleep: dict[str, Asleep] | None = None
    weights: tuple[float, ...] | None = None
    weights_version: WeightsVersion
    degraded: str | None = None
    credit: Credit | None = None
    config: str


@dataclass(slots=True)
class FusedBatch:
    """R fused records of ``head``, whose ``rows``, ``columns`` and ``weights`` follow from the rest.

    Shapes: ids R; at R (ms); outputs ``R x C``, None for expired; components ``R x A x C``, float32 or
    float64; offsets and within (the row in a columnar record; None where all are 0) ``R x A``; weights A
    where all rows have the same, else ``R x A``, None where the output was not pooled.

    Attributes:
        traces: trace context, by row.
        blocks: the credit blocks that stand here first, or again after a minute; row 0 carries them.
    """

    head: FusedsHead
    ids: list[bytes]
    at: NDArray[np.int64]
    outputs: NDArray[np.float64] | None
    components: NDArray[np.floating[Any]]
    offsets: NDArray[np.int64]
    within: NDArray[np.int32] | None = None
    weights: NDArray[np.float64] | None = None
    traces: dict[int, bytes] = field(default_factory=dict)
    blocks: dict[str, CreditBlock] | None = None

    def __len__(self) -> int:
        return len(self.ids)


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


def shared(
    *,
    status: Status,
    cause: Cause | None,
    segment: str | None,
    members: tuple[str, ...],
    topics: tuple[str, ...],
    partition: int,
    classes: tuple[str, ...],
    asleep: dict[str, Asleep] | None,
    weights_version: WeightsVersion,
    degraded: str | None,
    credit: Credit | None,
    config: str,
) -> FusedsHead:
    """The head of a batch that is to be packed. May be kept and used for many batches that share all this."""
    return FusedsHead(
        version=1, kind="fuseds", rows=1, columns=[], status=status, cause=cause, segment=segment,
        members=members, topics=topics, partition=partition, classes=classes, asleep=asleep,
        weights_version=weights_version, degraded=degraded, credit=credit, config=config,
    )  # fmt: skip


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


def records(batch: FusedBatch, make: Callable[..., F]) -> list[F]:
    """Each row as the message it would be alone: ``messages.Fused`` or a subclass of it."""
    head = batch.head
    # Copying one message and setting what differs costs half of making each anew.
    like = make(
        version=1,
        kind="fused",
        request_id="",
        status=head.status,
        cause=head.cause,
        at=0,
        segment=head.segment,
        components={},
        sources={},
        weights_version=head.weights_version,
        degraded=head.degraded,
        credit=head.credit,
        config=head.config,
    )
    made = [copy(like) for _ in range(len(batch))]
    _set_answers(made, batch)
    _set_members(made, batch)
    if batch.blocks is not None and head.credit is not None:
        made[0].credit = msgspec.structs.replace(head.credit, blocks=batch.blocks)
    return made


def _set_answers(made: Sequence[Fused], batch: FusedBatch) -> None:
    for row, request_id, at in zip(made, batch.ids, batch.at.tolist(), strict=True):
        row.request_id = request_id.decode()
        row.at = at
        if batch.head.asleep is not None:
            row.asleep = dict(batch.head.asleep)
    if batch.outputs is None:
        return
    classes = batch.head.classes
    labels = batch.outputs.argmax(axis=1).tolist()
    for row, output, label in zip(made, batch.outputs.tolist(), labels, strict=True):
        row.output = output
        row.label = classes[label]


def _set_members(made: Sequence[Fused], batch: FusedBatch) -> None:
    members = batch.head.members
    sources = _sources(batch)
    for row, components, places in zip(made, batch.components.tolist(), sources, strict=True):
        row.components = dict(zip(members, components, strict=False))
        row.sources = dict(zip(members, places, strict=False))
    if batch.weights is None:
        return
    shares = repeat(batch.weights.tolist()) if batch.weights.ndim == 1 else batch.weights.tolist()
    for row, weights in zip(made, shares, strict=False):
        row.weights = dict(zip(members, weights, strict=False))


def _sources(batch: FusedBatch) -> Sequence[tuple[Source, ...]]:
    """``R x A``, put together by columns: that way no source costs a line of Python."""
    offsets = batch.offsets
    within = np.zeros_like(offsets) if batch.within is None else batch.within
    columns = [
        zip(repeat(topic), repeat(batch.head.partition), at.tolist(), rows.tolist(), strict=False)
        for topic, at, rows in zip(batch.head.topics, offsets.T, within.T, strict=True)
    ]
    return list(zip(*columns, strict=True)) if columns else [()] * len(batch)


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
