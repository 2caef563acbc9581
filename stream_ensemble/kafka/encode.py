"""From ended requests to fused records.

Two paths with equal bytes (a property test says so): ``plain`` builds a :class:`messages.Fused` per record;
``fast`` fills one byte template per group of like records, with all numbers of the group written by one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from stream_ensemble.core.join.records import Cause, Status
from stream_ensemble.messages import Asleep, Credit, Fused, WeightsVersion

_STATUS = {status: status.name.lower() for status in Status}
_CAUSE = {cause: None if cause == Cause.NONE else cause.name.lower() for cause in Cause}
#: Bytes that JSON escapes inside a string.
_ESCAPED = bytes(range(0x20)) + b'"\\\x7f'


@dataclass(frozen=True, slots=True)
class FusedFormat:
    """What is the same in every fused record of one partition."""

    members: tuple[str, ...]
    #: Topic of each member's predictions.
    topics: tuple[str, ...]
    classes: tuple[str, ...]
    partition: int
    config: str


@dataclass(slots=True)
class FusedRows:
    """R ended requests fused with the same credit, in the same segment.

    Shapes: outputs R x V (meaningless where expired); components R x K x V; offsets, rows, weights R x K;
    the others R. Masks are bit masks of members.
    """

    ids: list[bytes]
    status: NDArray[np.uint8]
    cause: NDArray[np.uint8]
    at: NDArray[np.int64]
    outputs: NDArray[np.float64]
    components: NDArray[np.float64]
    offsets: NDArray[np.int64]
    weights: NDArray[np.float64]
    awake: NDArray[np.uint64]
    answered: NDArray[np.uint64]
    abstained: NDArray[np.uint64]
    expected: NDArray[np.uint64]
    segment: str | None
    version: WeightsVersion
    degraded: str | None
    credit: Credit | None

    def __len__(self) -> int:
        return len(self.ids)


def plain(rows: FusedRows, form: FusedFormat) -> list[bytes]:
    """The R values, one :class:`messages.Fused` each."""
    return [msgspec.json.encode(_record(rows, form, r)) for r in range(len(rows))]


def _record(rows: FusedRows, form: FusedFormat, r: int) -> Fused:
    awake = _members(rows.awake[r], form)
    answered = bool(rows.status[r] != Status.EXPIRED)
    pooled = answered and rows.status[r] != Status.FALLBACK
    output = rows.outputs[r].tolist() if answered else None
    return Fused(
        version=1,
        kind="fused",
        request_id=rows.ids[r].decode(),
        status=_STATUS[Status(rows.status[r])],  # type: ignore[arg-type]
        cause=_CAUSE[Cause(rows.cause[r])],  # type: ignore[arg-type]
        at=int(rows.at[r]),
        segment=rows.segment,
        output=output,
        label=form.classes[int(rows.outputs[r].argmax())] if answered else None,
        components={form.members[k]: rows.components[r, k].tolist() for k in awake},
        sources={
            form.members[k]: (form.topics[k], form.partition, int(rows.offsets[r, k]), 0) for k in awake
        },
        asleep=_asleep(rows, form, r) or None,
        weights={form.members[k]: float(rows.weights[r, k]) for k in awake} if pooled else None,
        weights_version=rows.version,
        degraded=rows.degraded,
        credit=rows.credit if pooled else None,
        config=form.config,
    )


def _members(mask: np.uint64, form: FusedFormat) -> list[int]:
    bits = int(mask)
    return [k for k in range(len(form.members)) if bits >> k & 1]


def _asleep(rows: FusedRows, form: FusedFormat, r: int) -> dict[str, Asleep]:
    awake, answered, abstained = int(rows.awake[r]), int(rows.answered[r]), int(rows.abstained[r])
    asleep: dict[str, Asleep] = {}
    for k in _members(rows.expected[r], form):
        bit = 1 << k
        if awake & bit:
            continue
        asleep[form.members[k]] = (
            "missing" if not answered & bit else "abstain" if abstained & bit else "error"
        )
    return asleep


def fast(rows: FusedRows, form: FusedFormat) -> list[bytes]:
    """The same bytes as :func:`plain`, group by group of records with the same status and the same members
    awake.
    """
    n = len(rows)
    alike = np.stack(
        (
            rows.status.astype(np.uint64),
            rows.cause.astype(np.uint64),
            rows.awake,
            rows.answered,
            rows.abstained,
            rows.expected,
        )
    )
    if (alike == alike[:, :1]).all():
        return _group(rows, form, np.arange(n))
    kinds, kind_of = np.unique(alike, axis=1, return_inverse=True)
    values: list[bytes] = [b""] * n
    for kind in range(kinds.shape[1]):
        places = np.flatnonzero(kind_of.ravel() == kind)
        for place, value in zip(places.tolist(), _group(rows, form, places), strict=True):
            values[place] = value
    return values


def _group(rows: FusedRows, form: FusedFormat, places: NDArray[np.intp]) -> list[bytes]:
    first = int(places[0])
    status = Status(rows.status[first])
    answered = status != Status.EXPIRED
    pooled = answered and status != Status.FALLBACK
    awake = _members(rows.awake[first], form)
    columns: list[list[bytes] | list[int]] = []
    parts = [b'{"version":1,"kind":"fused","request_id":%b,"status":"', _STATUS[status].encode(), b'"']
    columns.append(_quoted([rows.ids[i] for i in places.tolist()]))
    cause = _CAUSE[Cause(rows.cause[first])]
    if cause is not None:
        parts.append(b',"cause":"%b"' % cause.encode())
    parts.append(b',"at":%d')
    columns.append(rows.at[places].tolist())
    if rows.segment is not None:
        parts.append(b',"segment":' + _constant(rows.segment))
    if answered:
        parts.append(b',"output":%b,"label":%b')
        columns.append(_arrays(rows.outputs[places]))
        labels = [_json(name) for name in form.classes]
        columns.append([labels[c] for c in rows.outputs[places].argmax(axis=1).tolist()])
    parts.append(b',"components":{' + b",".join(_constant(form.members[k]) + b":%b" for k in awake) + b"}")
    columns += [_arrays(rows.components[places, k]) for k in awake]
    sources = [
        _constant(form.members[k]) + b":[" + _constant(form.topics[k]) + b",%d,%%d,0]" % form.partition
        for k in awake
    ]
    parts.append(b',"sources":{' + b",".join(sources) + b"}")
    columns += [rows.offsets[places, k].tolist() for k in awake]
    asleep = _asleep(rows, form, first)
    if asleep:
        parts.append(b',"asleep":' + _constant(asleep))
    if pooled:
        weights, numbers = _weights(rows, form, places, awake)
        parts.append(weights)
        columns += numbers
    parts.append(b',"weights_version":' + _constant(rows.version))
    if rows.degraded is not None:
        parts.append(b',"degraded":' + _constant(rows.degraded))
    if pooled and rows.credit is not None:
        parts.append(b',"credit":' + _constant(rows.credit))
    parts.append(b',"config":' + _constant(form.config) + b"}")
    template = b"".join(parts)
    return [template % values for values in zip(*columns, strict=True)]


def _weights(
    rows: FusedRows, form: FusedFormat, places: NDArray[np.intp], awake: Sequence[int]
) -> tuple[bytes, list[list[bytes]]]:
    weights = rows.weights[places][:, awake]
    names = [_constant(form.members[k]) for k in awake]
    if (weights == weights[:1]).all():
        numbers = [_constant(value) for value in weights[0].tolist()]
        return b',"weights":{' + b",".join(
            b"%b:%b" % pair for pair in zip(names, numbers, strict=True)
        ) + b"}", []
    columns = [orjson.dumps(weights[:, i].tolist())[1:-1].split(b",") for i in range(len(awake))]
    return b',"weights":{' + b",".join(name + b":%b" for name in names) + b"}", columns


def _arrays(values: NDArray[np.float64]) -> list[bytes]:
    """R x V numbers as R JSON arrays, by one call."""
    text = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    return [b"[" + row + b"]" for row in text[2:-2].split(b"],[")]


def _quoted(ids: list[bytes]) -> list[bytes]:
    text = b"".join(ids)
    if len(text.translate(None, _ESCAPED)) == len(text):
        return [b'"' + request_id + b'"' for request_id in ids]
    return [_json(request_id.decode()) for request_id in ids]


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)


def _constant(value: object) -> bytes:
    """JSON that goes into a %-template as it is."""
    return _json(value).replace(b"%", b"%%")
