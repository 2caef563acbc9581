"""Many requests that ended alike, as columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from stream_ensemble.columnar.layout import Head
from stream_ensemble.messages import (
    Asleep,
    Cause,
    Credit,
    CreditBlock,
    Name,
    Partition,
    Status,
    WeightsVersion,
)


class FusedsHead(Head, kw_only=True, frozen=True, omit_defaults=True):
    """What R fused records share. The fields of ``messages.Fused`` mean what they mean there.

    Attributes:
        members: the A members awake, those in shadow too, in the order of the columns.
        topics: where each one's predictions stand, all in ``partition``.
        classes: what the V numbers of an output are of.
        exclusive: is one of them the answer? If not there is no label.
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
    exclusive: bool = True
    asleep: dict[str, Asleep] | None = None
    weights: tuple[float, ...] | None = None
    weights_version: WeightsVersion
    degraded: str | None = None
    credit: Credit | None = None
    shadow: tuple[Name, ...] = ()
    warm: dict[str, float] | None = None
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
    shadow: tuple[str, ...] = (),
    warm: dict[str, float] | None = None,
    exclusive: bool = True,
) -> FusedsHead:
    """The head of a batch that is to be packed. May be kept and used for many batches that share all this."""
    return FusedsHead(
        version=1, kind="fuseds", rows=1, columns=[], status=status, cause=cause, segment=segment,
        members=members, topics=topics, partition=partition, classes=classes, asleep=asleep,
        weights_version=weights_version, degraded=degraded, credit=credit, config=config,
        shadow=shadow, warm=warm, exclusive=exclusive,
    )  # fmt: skip
