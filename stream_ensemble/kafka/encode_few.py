"""A handful of fused records without arrays: the bytes of ``encode_fast``, see ``core/join/few``."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import orjson

from stream_ensemble.core.join.records import Decided, Status
from stream_ensemble.core.join.slots import Slots
from stream_ensemble.core.learning.calibration import calibrated
from stream_ensemble.core.learning.membership import Membership
from stream_ensemble.kafka.chunks import Headers
from stream_ensemble.kafka.encode import Encoded, FusedFormat
from stream_ensemble.kafka.encode_fast import Kind, labels_of, quoted
from stream_ensemble.kafka.templates import Template
from stream_ensemble.messages import HEADER_TRACE, Credit, WeightsVersion


class Shares(NamedTuple):
    """Weights of the K members, 0 where asleep, and those of the awake as bytes."""

    weights: list[float]
    written: bytes


class Given(NamedTuple):
    """What all of them are fused with. ``shares`` takes the mask of those awake."""

    shares: Callable[[int], Shares]
    version: WeightsVersion
    degraded: str | None
    credit: Credit
    members: Membership


def few(slots: Slots, decided: Decided, form: FusedFormat, given: Given) -> Encoded | None:
    """R ended requests without a segment, pooled linearly, as records of their own.

    None where one was not pooled, or is the first of its kind: its template is made by ``encode_fast``.
    """
    keys, pooled, headers = [], [], []
    numbers = decided.slots.tolist()
    for slot, status, cause in zip(numbers, decided.status.tolist(), decided.cause.tolist(), strict=True):
        one = _pooled(slots, slot & slots.mask, (status, cause), form, given)
        if one is None:
            return None
        trace = slots.trace_of.get(slot)
        keys.append(slots.ids[slot & slots.mask])
        pooled.append(one)
        headers.append([] if trace is None else [(HEADER_TRACE, trace)])
    if given.credit.calibration is not None:
        outputs = np.array([output for *_, output in pooled])
        sure = calibrated(outputs, given.credit.calibration).tolist()
        pooled = [(*one, output) for (*one, _), output in zip(pooled, sure, strict=True)]
    values = [_value(slots, one, form) for one in pooled]
    order = np.arange(len(values))
    carried: list[Headers] | None = headers if any(headers) else None
    return Encoded(keys, values, carried, order, order + 1)


#: A request whose template is known: that, its row, the awake members, all members' vectors, and its output.
_Pooled = tuple[Template, int, list[int], list[list[float]], list[float]]


def _pooled(slots: Slots, row: int, end: tuple[int, int], form: FusedFormat, given: Given) -> _Pooled | None:
    if end[0] > Status.PARTIAL:
        return None
    cells, members, width = slots.cells, slots.members, slots.values
    mask = cells.awake[row]
    shares = given.shares(mask)
    kind = Kind(
        *end,
        mask,
        cells.answered[row],
        cells.abstained[row],
        cells.expected[row],
        slots.columnar,
        None,
        given.degraded,
        given.version,
        (given.credit.everywhere, given.credit.segment, given.credit.calibration),
        shares.written,
        given.members,
    )
    template = form.templates.get(kind)
    if template is None:
        return None
    flat = cells.outputs[row * members * width : (row + 1) * members * width].tolist()
    vectors = [flat[begin : begin + width] for begin in range(0, members * width, width)]
    awake = [k for k in range(members) if mask >> k & 1]
    return template, row, awake, vectors, _mean(vectors, shares.weights)


def _value(slots: Slots, one: _Pooled, form: FusedFormat) -> bytes:
    template, row, awake, vectors, output = one
    members, cells = slots.members, slots.cells
    texts = orjson.dumps([output, *[vectors[k] for k in awake]])[2:-2].split(b"],[")
    label = (labels_of(form.classes)[output.index(max(output))],) if form.exclusive else ()
    offsets = cells.offsets[row * (members + 1) : (row + 1) * (members + 1)].tolist()
    sources = [offsets[k] for k in awake]
    if slots.columnar:
        within = slots.rows[row].tolist()
        sources = [number for k in awake for number in (offsets[k], within[k])]
    return template.text % (*quoted([slots.ids[row]]), cells.at[row], texts[0], *label, *texts[1:], *sources)


def _mean(vectors: list[list[float]], weights: list[float]) -> list[float]:
    """``core.fusion.linear_pool`` for one request: the same multiplications and additions in the same
    order."""
    weight = weights[0]
    pooled = [weight * x for x in vectors[0]]
    for weight, vector in zip(weights[1:], vectors[1:], strict=True):
        pooled = [sum_ + weight * x for sum_, x in zip(pooled, vector, strict=True)]
    return pooled
