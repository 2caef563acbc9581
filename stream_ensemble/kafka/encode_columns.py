"""Fused records as columns: many requests that ended alike in one Kafka record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.columnar import fuseds
from stream_ensemble.columnar.fuseds import FusedBatch, FusedsHead
from stream_ensemble.core.join.records import Cause, Status
from stream_ensemble.kafka.chunks import Headers
from stream_ensemble.kafka.encode import (
    CAUSE,
    STATUS,
    Encoded,
    FusedFormat,
    FusedRows,
    alike,
    asleep_in,
    members_in,
    shadow_in,
    warm_in,
)
from stream_ensemble.messages import FORMAT_COLUMNS, HEADER_CREDIT, HEADER_FORMAT, MOST_ROWS

#: A record is closed at about this size, well below what brokers take by default.
_RECORD_BYTES = 256 << 10
_FORM = (HEADER_FORMAT, FORMAT_COLUMNS)


def columnar(rows: FusedRows, form: FusedFormat) -> Encoded:
    """The R rows as few records; credit blocks stand in a header of the first one that was pooled."""
    values: list[bytes] = []
    headers: list[Headers] = []
    order: list[NDArray[np.intp]] = []
    keyframe = rows.keyframe_row()
    # In the order of the rows, so that no record refers to a block that comes behind it: a label that waits
    # is learned as soon as its answer is read.
    groups = sorted(alike(rows), key=lambda places: int(places[0]))
    for places in _cut(groups, _row_bytes(rows)):
        batch = batch_of(rows, form, places)
        carried: Headers = [_FORM]
        if keyframe is not None and keyframe in places:
            carried.append((HEADER_CREDIT, fuseds.pack_blocks(rows.blocks or {})))
        values.append(fuseds.pack(batch))
        headers.append(carried)
        order.append(places)
    ends = np.cumsum([len(places) for places in order])
    return Encoded([None] * len(values), values, headers, np.concatenate(order), ends)


def batch_of(rows: FusedRows, form: FusedFormat, places: NDArray[np.intp]) -> FusedBatch:
    """The rows at ``places``, which are alike, as a batch."""
    first = int(places[0])
    awake = members_in(rows.awake[first], form)
    status = Status(rows.status[first])
    pooled = status in (Status.COMPLETE, Status.PARTIAL)
    within = None if rows.within is None else rows.within[places][:, awake]
    weights = None
    if pooled:
        weights = rows.weights[places][:, awake] if len(rows.weights) > 1 else rows.weights[0, awake]
    return FusedBatch(
        _head(rows, form, first, awake),
        [rows.ids[place] for place in places.tolist()],
        rows.at[places],
        None if status == Status.EXPIRED else rows.outputs[places],
        _components(rows, places, awake),
        rows.offsets[places][:, awake],
        within,
        weights,
        {i: rows.traces[place] for i, place in enumerate(places.tolist()) if place in rows.traces}
        if rows.traces
        else {},
    )


def _head(rows: FusedRows, form: FusedFormat, first: int, awake: Sequence[int]) -> FusedsHead:
    status = Status(rows.status[first])
    pooled = status in (Status.COMPLETE, Status.PARTIAL)
    return fuseds.shared(
        status=STATUS[status],  # type: ignore[arg-type]
        cause=CAUSE[Cause(rows.cause[first])],  # type: ignore[arg-type]
        segment=rows.segment,
        members=tuple(form.members[k] for k in awake),
        topics=tuple(form.topics[k] for k in awake),
        partition=form.partition,
        classes=form.classes,
        exclusive=form.exclusive,
        asleep=asleep_in(rows, form, first) or None,
        weights_version=rows.version,
        degraded=rows.degraded,
        credit=rows.credit if pooled else None,
        shadow=shadow_in(rows, form, first),
        warm=warm_in(rows, form, first) if pooled else None,
        config=form.config,
    )


def _components(
    rows: FusedRows, places: NDArray[np.intp], awake: Sequence[int]
) -> NDArray[np.float32] | NDArray[np.float64]:
    """R x A x V; four bytes a number where that is what the members published, exact either way."""
    found = rows.components[places][:, awake]
    with np.errstate(over="ignore"):
        coarse = found.astype(np.float32)
    return coarse if (coarse == found).all() else found


def _row_bytes(rows: FusedRows) -> int:
    _, members, values = rows.components.shape
    return int(64 + 8 * values * (members + 1) + 20 * members)


def _cut(groups: Sequence[NDArray[np.intp]], row_bytes: int) -> Iterator[NDArray[np.intp]]:
    most = min(max(1, _RECORD_BYTES // row_bytes), MOST_ROWS)
    for places in groups:
        for begin in range(0, len(places), most):
            yield places[begin : begin + most]
