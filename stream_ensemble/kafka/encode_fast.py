"""The bytes of :func:`encode.plain`, several times faster.

Records with the same status, the same members awake and the same weights differ in their numbers only: one
byte template serves them all, and all their numbers are written by one call.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from stream_ensemble.core.join.records import Cause, Status
from stream_ensemble.core.learning.membership import Membership
from stream_ensemble.kafka.chunks import Headers
from stream_ensemble.kafka.encode import (
    CAUSE,
    STATUS,
    Encoded,
    FusedFormat,
    FusedRows,
    alike,
    asleep_in,
    credit_of,
    members_in,
    shadow_in,
    warm_in,
)
from stream_ensemble.kafka.templates import (
    Chosen,
    Field,
    Given,
    Integers,
    Template,
    Vectors,
    filled,
    template,
)
from stream_ensemble.messages import HEADER_TRACE, Calibration, Credit, WeightsVersion

#: Bytes that JSON escapes inside a string.
_ESCAPED = bytes(range(0x20)) + b'"\\\x7f'
#: Templates kept; new weights make new ones.
_MOST_TEMPLATES = 4096


class Kind(NamedTuple):
    """What records that share a template have in common. ``weights``: of the members awake, as bytes; None
    where they stand in the record."""

    status: int
    cause: int
    awake: int
    answered: int
    abstained: int
    expected: int
    columnar: bool
    segment: str | None
    degraded: str | None
    version: WeightsVersion
    credit: tuple[str, str | None, Calibration | None] | None
    weights: bytes | None
    members: Membership | None


def single(rows: FusedRows, form: FusedFormat) -> Encoded:
    """The R rows as records of their own, keyed by request id."""
    headers: list[Headers] | None = None
    if rows.traces:
        traces = map(rows.traces.get, range(len(rows)))
        headers = [[] if trace is None else [(HEADER_TRACE, trace)] for trace in traces]
    order = np.arange(len(rows))
    return Encoded(rows.ids, fast(rows, form), headers, order, order + 1)


def fast(rows: FusedRows, form: FusedFormat) -> list[bytes]:
    """The R values."""
    groups = alike(rows)
    if len(groups) == 1:
        values = _group(rows, form, None, rows.credit)
    else:
        values = [b""] * len(rows)
        for places in groups:
            for place, value in zip(places.tolist(), _group(rows, form, places, rows.credit), strict=True):
                values[place] = value
    keyframe = rows.keyframe_row()
    if keyframe is not None:
        [values[keyframe]] = _group(rows, form, np.array([keyframe]), credit_of(rows, keyframe))
    return values


def _group(
    rows: FusedRows, form: FusedFormat, places: NDArray[np.intp] | None, credit: Credit | None
) -> list[bytes]:
    """Values of the records at ``places`` (None: all), which are alike but for their numbers."""

    first = 0 if places is None else int(places[0])
    awake = members_in(rows.awake[first], form)
    answered = bool(rows.status[first] != Status.EXPIRED)
    pooled = answered and bool(rows.status[first] != Status.FALLBACK)
    weights = _weights(rows, places, awake) if pooled else None
    constant = weights is not None and len(weights) == 1
    ids = rows.ids if places is None else [rows.ids[place] for place in places.tolist()]
    outputs = _at(rows.outputs, places)
    components = _at(rows.components, places)
    fields: list[Field] = [Given(quoted(ids)), Integers(_at(rows.at, places))]
    if answered:
        fields.append(Vectors(outputs))
    if answered and form.exclusive:
        fields.append(Chosen(labels_of(form.classes), outputs.argmax(axis=1)))
    fields += [Vectors(components[:, k]) for k in awake]
    offsets = _at(rows.offsets, places)
    within = None if rows.within is None else _at(rows.within, places).astype(np.int64)
    for k in awake:
        fields.append(Integers(offsets[:, k]))
        if within is not None:
            fields.append(Integers(within[:, k]))
    if weights is not None and not constant:
        fields += [Given(orjson.dumps(weights[:, i].tolist())[1:-1].split(b",")) for i in range(len(awake))]
    like = _template(rows, form, first, awake, weights if constant else None, credit)
    return filled(like, fields, len(ids))


def _at(column: NDArray[Any], places: NDArray[np.intp] | None) -> NDArray[Any]:
    return column if places is None else column[places]


def _weights(rows: FusedRows, places: NDArray[np.intp] | None, awake: list[int]) -> NDArray[np.float64]:
    """Weights of the awake members, R x A; a single row where all have the same."""
    weights = rows.weights
    if len(weights) > 1:
        weights = weights if places is None else weights[places]
        bits = np.ascontiguousarray(weights).view(np.int64)
        if (bits == bits[0]).all():
            weights = weights[:1]
    return weights[:, awake]


def _template(
    rows: FusedRows,
    form: FusedFormat,
    r: int,
    awake: list[int],
    weights: NDArray[np.float64] | None,
    credit: Credit | None,
) -> Template:
    """The template of record r and its like; ``weights`` (1 x A) stand in it when all have the same."""
    if credit is not None and credit.blocks is not None:
        return _new_template(rows, form, r, awake, weights, credit)
    key = Kind(
        int(rows.status[r]),
        int(rows.cause[r]),
        int(rows.awake[r]),
        int(rows.answered[r]),
        int(rows.abstained[r]),
        int(rows.expected[r]),
        rows.within is not None,
        rows.segment,
        rows.degraded,
        rows.version,
        None if credit is None else (credit.everywhere, credit.segment, credit.calibration),
        None if weights is None else weights.tobytes(),
        rows.members,
    )
    known = form.templates.get(key)
    if known is None:
        if len(form.templates) >= _MOST_TEMPLATES:
            form.templates.clear()
        known = form.templates[key] = _new_template(rows, form, r, awake, weights, credit)
    return known


def _new_template(
    rows: FusedRows,
    form: FusedFormat,
    r: int,
    awake: list[int],
    weights: NDArray[np.float64] | None,
    credit: Credit | None,
) -> Template:
    status = Status(rows.status[r])
    answered = status != Status.EXPIRED
    pooled = answered and status != Status.FALLBACK
    names = [_constant(form.members[k]) for k in awake]
    parts = [b'{"version":1,"kind":"fused","request_id":%b,"status":"', STATUS[status].encode(), b'"']
    cause = CAUSE[Cause(rows.cause[r])]
    if cause is not None:
        parts.append(b',"cause":"%b"' % cause.encode())
    parts.append(b',"at":%d')
    if rows.segment is not None:
        parts.append(b',"segment":' + _constant(rows.segment))
    if answered:
        parts.append(b',"output":[%b]')
    if answered and form.exclusive:
        parts.append(b',"label":%b')
    parts.append(b',"components":{' + b",".join(name + b":[%b]" for name in names) + b"}")
    within = b",%d" if rows.within is not None else b",0"
    sources = [
        name + b":[" + _constant(form.topics[k]) + b",%d,%%d" % form.partition + within + b"]"
        for name, k in zip(names, awake, strict=True)
    ]
    parts.append(b',"sources":{' + b",".join(sources) + b"}")
    asleep = asleep_in(rows, form, r)
    if asleep:
        parts.append(b',"asleep":' + _constant(asleep))
    if pooled:
        shares = [b"%b"] * len(awake) if weights is None else [_constant(w) for w in weights[0].tolist()]
        pairs = [name + b":" + share for name, share in zip(names, shares, strict=True)]
        parts.append(b',"weights":{' + b",".join(pairs) + b"}")
    parts.append(b',"weights_version":' + _constant(rows.version))
    if rows.degraded is not None:
        parts.append(b',"degraded":' + _constant(rows.degraded))
    if pooled and credit is not None:
        parts.append(b',"credit":' + _constant(credit))
    shadow = shadow_in(rows, form, r)
    if shadow:
        parts.append(b',"shadow":' + _constant(shadow))
    warm = warm_in(rows, form, r) if pooled else None
    if warm:
        parts.append(b',"warm":' + _constant(warm))
    parts.append(b',"config":' + _constant(form.config) + b"}")
    return template(b"".join(parts))


@lru_cache(maxsize=64)
def labels_of(classes: tuple[str, ...]) -> list[bytes]:
    """The names as JSON."""
    return [_json(name) for name in classes]


def quoted(ids: list[bytes]) -> list[bytes]:
    """Request ids as JSON."""
    text = b"".join(ids)
    if len(text.translate(None, _ESCAPED)) == len(text):
        return [b'"%b"' % request_id for request_id in ids]
    return [_json(request_id.decode()) for request_id in ids]


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)


def _constant(value: object) -> bytes:
    """JSON that goes into a %-template as it is."""
    return _json(value).replace(b"%", b"%%")
