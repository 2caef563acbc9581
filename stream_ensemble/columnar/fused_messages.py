"""Columnar fused records as the messages they would be alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from itertools import repeat
from typing import TypeVar

import msgspec
import numpy as np

from stream_ensemble.columnar.fused_batch import FusedBatch
from stream_ensemble.messages import Fused, Source

F = TypeVar("F", bound=Fused)


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
        shadow=head.shadow or None,
        warm=head.warm,
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
    for row, output in zip(made, batch.outputs.tolist(), strict=True):
        row.output = output
    if not batch.head.exclusive:
        return
    classes = batch.head.classes
    for row, label in zip(made, batch.outputs.argmax(axis=1).tolist(), strict=True):
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
