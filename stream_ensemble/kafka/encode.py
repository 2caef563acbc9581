"""From ended requests to fused records, the plain way: one :class:`messages.Fused` each.

``encode_fast`` writes the same bytes, ``encode_columns`` the same records as columns; property tests say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.join.records import Cause, Status
from stream_ensemble.core.learning.membership import Membership
from stream_ensemble.kafka.chunks import Headers
from stream_ensemble.kafka.templates import Template
from stream_ensemble.messages import Asleep, Credit, CreditBlock, Fused, WeightsVersion

STATUS = {status: status.name.lower() for status in Status}
CAUSE = {cause: None if cause == Cause.NONE else cause.name.lower() for cause in Cause}


@dataclass(frozen=True, slots=True)
class FusedFormat:
    """What is the same in every fused record of one partition."""

    members: tuple[str, ...]
    #: Topic of each member's predictions.
    topics: tuple[str, ...]
    #: What the numbers of an output are of.
    classes: tuple[str, ...]
    partition: int
    config: str
    #: Is one of them the answer? If not there is no label.
    exclusive: bool = True
    #: What ``encode_fast`` has worked out before: templates by kind of record.
    templates: dict[object, Template] = field(default_factory=dict, compare=False, repr=False)


@dataclass(slots=True)
class FusedRows:
    """R ended requests fused with the same credit, in the same segment.

    Shapes: outputs R x V (meaningless where expired); components R x K x V; offsets and within (the row in
    a columnar record; None where all are 0) R x K; weights R x K, or 1 x K where all have the same; the
    others R. Masks are bit masks of members.

    Attributes:
        members: who is awaited, and the warm shares; None: everyone is, and nobody has any.
        blocks: credit blocks that have to stand in the log here: in the first pooled row (``keyframe_row``).
        traces: trace context by row.
    """

    ids: list[bytes]
    status: NDArray[np.uint8]
    cause: NDArray[np.uint8]
    at: NDArray[np.int64]
    outputs: NDArray[np.float64]
    components: NDArray[np.float64]
    offsets: NDArray[np.int64]
    within: NDArray[np.int32] | None
    weights: NDArray[np.float64]
    awake: NDArray[np.uint64]
    answered: NDArray[np.uint64]
    abstained: NDArray[np.uint64]
    expected: NDArray[np.uint64]
    segment: str | None
    version: WeightsVersion
    degraded: str | None
    credit: Credit | None
    members: Membership | None = None
    blocks: dict[str, CreditBlock] | None = None
    traces: dict[int, bytes] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def keyframe_row(self) -> int | None:
        """The row that carries ``blocks``; None when there are none, or no row was pooled."""
        if self.blocks is None or self.credit is None:
            return None
        pooled = np.flatnonzero((self.status == Status.COMPLETE) | (self.status == Status.PARTIAL))
        return int(pooled[0]) if len(pooled) else None


class Encoded(NamedTuple):
    """R fused requests as M Kafka records; record m holds the requests ``order[ends[m - 1]:ends[m]]``.

    ``headers`` is None where no record has any.
    """

    keys: Sequence[bytes | None]
    values: list[bytes]
    headers: list[Headers] | None
    order: NDArray[np.intp]
    ends: NDArray[np.intp]


def together(parts: Sequence[Encoded]) -> Encoded:
    """Several as one, in order."""
    if len(parts) == 1:
        return parts[0]
    headers: list[Headers] | None = None
    if any(part.headers for part in parts):
        headers = [carried for part in parts for carried in part.headers or [[]] * len(part.values)]
    before = np.cumsum([0] + [len(part.order) for part in parts])
    return Encoded(
        [key for part in parts for key in part.keys],
        [value for part in parts for value in part.values],
        headers,
        np.concatenate([part.order for part in parts]),
        np.concatenate([part.ends + begin for part, begin in zip(parts, before.tolist(), strict=False)]),
    )


def alike(rows: FusedRows) -> list[NDArray[np.intp]]:
    """Places of the rows that differ in their numbers only, group by group."""
    kind = rows.status.astype(np.uint64) << np.uint64(8) | rows.cause
    columns = (kind, rows.awake, rows.answered, rows.abstained, rows.expected)
    if all((column == column[0]).all() for column in columns):
        return [np.arange(len(rows))]
    places: dict[tuple[int, ...], list[int]] = {}
    for place, one in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        places.setdefault(one, []).append(place)
    return [np.array(places[one]) for one in sorted(places)]


def plain(rows: FusedRows, form: FusedFormat) -> list[bytes]:
    """The R values, one :class:`messages.Fused` each."""
    return [msgspec.json.encode(_record(rows, form, r)) for r in range(len(rows))]


def credit_of(rows: FusedRows, r: int) -> Credit | None:
    """What stands in row r, if it was pooled."""
    if rows.credit is None or r != rows.keyframe_row():
        return rows.credit
    return msgspec.structs.replace(rows.credit, blocks=rows.blocks)


def _record(rows: FusedRows, form: FusedFormat, r: int) -> Fused:
    awake = members_in(rows.awake[r], form)
    answered = bool(rows.status[r] != Status.EXPIRED)
    pooled = answered and rows.status[r] != Status.FALLBACK
    output = rows.outputs[r].tolist() if answered else None
    weights = rows.weights[r if len(rows.weights) > 1 else 0]
    return Fused(
        version=1,
        kind="fused",
        request_id=rows.ids[r].decode(),
        status=STATUS[Status(rows.status[r])],  # type: ignore[arg-type]
        cause=CAUSE[Cause(rows.cause[r])],  # type: ignore[arg-type]
        at=int(rows.at[r]),
        segment=rows.segment,
        output=output,
        label=form.classes[int(rows.outputs[r].argmax())] if answered and form.exclusive else None,
        components={form.members[k]: rows.components[r, k].tolist() for k in awake},
        sources={
            form.members[k]: (
                form.topics[k],
                form.partition,
                int(rows.offsets[r, k]),
                0 if rows.within is None else int(rows.within[r, k]),
            )
            for k in awake
        },
        asleep=asleep_in(rows, form, r) or None,
        weights={form.members[k]: float(weights[k]) for k in awake} if pooled else None,
        weights_version=rows.version,
        degraded=rows.degraded,
        credit=credit_of(rows, r) if pooled else None,
        shadow=shadow_in(rows, form, r) or None,
        warm=warm_in(rows, form, r) if pooled else None,
        config=form.config,
    )


def shadow_in(rows: FusedRows, form: FusedFormat, r: int) -> tuple[str, ...]:
    """The members of record r's components that are in shadow."""
    if rows.members is None:
        return ()
    return tuple(form.members[k] for k in members_in(rows.awake[r] & ~np.uint64(rows.members.awaited), form))


def warm_in(rows: FusedRows, form: FusedFormat, r: int) -> dict[str, float] | None:
    """The warm shares in the answer of record r, which was pooled."""
    if rows.members is None or not rows.members.shares:
        return None
    return rows.members.warm(form.members, int(rows.awake[r]))


def members_in(mask: np.uint64, form: FusedFormat) -> list[int]:
    """The members of a mask, in the order of the settings."""
    bits = int(mask)
    return [k for k in range(len(form.members)) if bits >> k & 1]


def asleep_in(rows: FusedRows, form: FusedFormat, r: int) -> dict[str, Asleep]:
    """The members expected in record r that gave no output, and why."""
    awake, answered, abstained = int(rows.awake[r]), int(rows.answered[r]), int(rows.abstained[r])
    silent: Asleep = "unneeded" if rows.cause[r] == Cause.EARLY else "missing"
    asleep: dict[str, Asleep] = {}
    for k in members_in(rows.expected[r], form):
        bit = 1 << k
        if awake & bit:
            continue
        asleep[form.members[k]] = silent if not answered & bit else "abstain" if abstained & bit else "error"
    return asleep
