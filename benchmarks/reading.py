"""Fused records as columns, whoever wrote them and in which form."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.job import ID_BYTES
from benchmarks.task import CLASSES, MEMBERS
from stream_ensemble.columnar import fuseds
from stream_ensemble.messages import HEADER_CREDIT, HEADER_FORMAT

_K, _C = len(MEMBERS), len(CLASSES)
_CLASS = {name: number for number, name in enumerate(CLASSES)}


class _Single(msgspec.Struct, gc=False):
    request_id: str
    status: str
    output: list[float]
    label: str
    components: dict[str, list[float]]
    weights_version: msgspec.Raw


_decode = msgspec.json.Decoder(_Single).decode


class Fused(NamedTuple):
    """N fused records.

    Shapes: ids ``N x 32``; complete N; outputs ``N x C``; labels N; components ``N x K x C``, in the job's
    order; offsets N.
    """

    ids: NDArray[np.uint8]
    complete: NDArray[np.bool_]
    outputs: NDArray[np.float64]
    labels: NDArray[np.int64]
    components: NDArray[np.float64]
    offsets: NDArray[np.int64]

    def take(self, which: NDArray[np.bool_]) -> Fused:
        """Some of them."""
        ids, complete, outputs, labels, components, offsets = self
        return Fused(
            ids[which], complete[which], outputs[which], labels[which], components[which], offsets[which]
        )


def fused_in(messages: Sequence[Any]) -> list[Fused]:
    """What Kafka messages hold: the single ones together, each columnar one by itself."""
    single, found = [], []
    for message in messages:
        if message.headers() and HEADER_FORMAT in dict(message.headers()):
            found.append(_columnar(message))
        else:
            single.append(message)
    if single:
        found.append(_singles(single))
    return found


def _singles(messages: Sequence[Any]) -> Fused:
    records = [_decode(message.value()) for message in messages]
    n = len(records)
    if any(
        record.request_id.encode() != message.key() for record, message in zip(records, messages, strict=True)
    ):
        raise ValueError("a fused record's key is not its request id")
    outputs = chain.from_iterable([record.output for record in records])
    components = chain.from_iterable([record.components[member] for record in records for member in MEMBERS])
    return Fused(
        _id_rows([message.key() for message in messages]),
        np.array([record.status == "complete" for record in records]),
        np.fromiter(outputs, np.float64, n * _C).reshape(n, _C),
        np.array([_CLASS[record.label] for record in records]),
        np.fromiter(components, np.float64, n * _K * _C).reshape(n, _K, _C),
        np.array([message.offset() for message in messages]),
    )


def _columnar(message: Any) -> Fused:
    batch = fuseds.unpack(message.value(), dict(message.headers()).get(HEADER_CREDIT))
    n = len(batch)
    order = [batch.head.members.index(member) for member in MEMBERS]
    assert batch.outputs is not None
    return Fused(
        _id_rows(batch.ids),
        np.full(n, batch.head.status == "complete"),
        batch.outputs,
        batch.outputs.argmax(axis=1),
        batch.components[:, order].astype(np.float64),
        np.full(n, message.offset()),
    )


def _id_rows(ids: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(ids), np.uint8).reshape(len(ids), ID_BYTES)
