"""The same answers and labels in every form of record, and what should be learned of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from stream_ensemble.columnar import feedbacks, fuseds
from stream_ensemble.columnar.feedbacks import FeedbackBatch
from stream_ensemble.columnar.fuseds import FusedBatch
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.algorithm import Algorithm, Labelled
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.kafka.chunks import Row
from stream_ensemble.messages import (
    FORMAT_ARRAYS,
    FORMAT_COLUMNS,
    HEADER_CREDIT,
    HEADER_FORMAT,
    Credit,
    Fused,
    WeightsVersion,
)
from tests.integration.learner_world import BLOCKS, CLASSES, MEMBERS

#: The form of a single label.
ALONE = b""
_PACK = {FORMAT_COLUMNS: feedbacks.pack, FORMAT_ARRAYS: feedbacks.pack_arrays}
_UNPACK = {FORMAT_COLUMNS: feedbacks.unpack, FORMAT_ARRAYS: feedbacks.unpack_arrays}


class Asked(NamedTuple):
    """A request: the members awake, their outputs (A x C, single precision), and which credit block."""

    request_id: str
    awake: tuple[str, ...]
    outputs: np.ndarray
    block: int


class Label(NamedTuple):
    """One label of one request."""

    request_id: str
    label: int
    revision: int = 0
    weight: float = 1.0


def asked(request_ids: Iterable[str], seed: int = 7) -> list[Asked]:
    """Requests with random answers."""
    rng = np.random.default_rng(seed)
    found = []
    for request_id in request_ids:
        awake = tuple(member for member in MEMBERS if rng.random() < 0.7) or MEMBERS[:1]
        outputs = rng.dirichlet(np.ones(len(CLASSES)), len(awake)).astype(np.float32)
        found.append(Asked(request_id, awake, outputs, int(rng.integers(len(BLOCKS)))))
    return found


# --- records ----------------------------------------------------------------------------------------


def fused_records(some: Sequence[Asked], *, columns: bool, partitions: int) -> list[tuple[int, Row]]:
    """Fused records by partition; the first record with a credit block there carries it."""
    alike: dict[tuple[int, int, tuple[str, ...]], list[Asked]] = defaultdict(list)
    for each in some:
        alike[partition_of(each.request_id.encode(), partitions), each.block, each.awake].append(each)
    carried: set[tuple[int, int]] = set()
    found = []
    for (partition, block, awake), rows in sorted(alike.items()):
        batch = _batch(rows, awake, partition, BLOCKS[block][0])
        if (partition, block) not in carried:
            batch.blocks = dict([BLOCKS[block]])
        carried.add((partition, block))
        found += [(partition, record) for record in _fused(batch, columns)]
    return found


def _fused(batch: FusedBatch, columns: bool) -> list[Row]:
    if not columns:
        rows = fuseds.records(batch, Fused)
        return [Row(row.request_id.encode(), msgspec.json.encode(row), []) for row in rows]
    headers = [(HEADER_FORMAT, FORMAT_COLUMNS)]
    if batch.blocks is not None:
        headers.append((HEADER_CREDIT, fuseds.pack_blocks(batch.blocks)))
    return [Row(None, fuseds.pack(batch), headers)]


def _batch(rows: Sequence[Asked], awake: tuple[str, ...], partition: int, digest: str) -> FusedBatch:
    n = len(rows)
    head = fuseds.shared(
        status="complete",
        cause=None,
        segment=None,
        members=awake,
        topics=awake,
        partition=partition,
        classes=tuple(CLASSES),
        asleep=None,
        weights_version=WeightsVersion(generation=0, n=0, digest="d"),
        degraded=None,
        credit=Credit(everywhere=digest),
        config="c",
    )
    outputs = np.stack([row.outputs for row in rows])
    ids = [row.request_id.encode() for row in rows]
    return FusedBatch(
        head, ids, np.full(n, 5), np.full((n, 3), 1 / 3), outputs, np.zeros((n, len(awake)), np.int64)
    )


def label_records(rows: Sequence[Label], form: bytes) -> list[Row]:
    """Labels as one record, or each as one where the form is ALONE."""
    if form == ALONE:
        head = {"version": 1, "kind": "feedback"}
        return [Row(row.request_id.encode(), json.dumps(head | row._asdict()).encode(), []) for row in rows]
    batch = FeedbackBatch(
        [row.request_id.encode() for row in rows],
        [row.label for row in rows],
        None,
        np.array([row.revision for row in rows]),
        np.array([row.weight for row in rows]),
    )
    return [Row(None, _PACK[form](batch), [(HEADER_FORMAT, form)])]


def label_in(value: bytes | None, form: bytes) -> Label:
    """The one label that a record's value holds, be it right or wrong."""
    if form == FORMAT_COLUMNS:
        batch = feedbacks.unpack(value or b"")
        assert len(batch) == 1
        assert batch.revisions is not None and batch.weights is not None
        label, revision, weight = batch.labels[0], batch.revisions[0], batch.weights[0]
        return Label(batch.ids[0].decode(), int(label), int(revision), float(weight))
    said = json.loads(value or b"")
    if form == FORMAT_ARRAYS:
        names = {"request_id": "request_ids", "label": "labels", "revision": "revisions", "weight": "weights"}
        assert {len(said[name]) for name in names.values()} == {1}
        return Label(**{field: said[name][0] for field, name in names.items()})
    return Label(**{field: said[field] for field in Label._fields})


# --- what should be learned -------------------------------------------------------------------------


def expected(algorithm: Algorithm, some: Sequence[Asked], winners: Iterable[Label]) -> Contribution:
    """What these labels teach, one by one."""
    answered = {each.request_id: each for each in some}
    part, n = Contribution(MEMBERS), 0
    for label in winners:
        n += 1
        _learn(algorithm, part, answered[label.request_id], label)
    part.n = n
    return part


def _learn(algorithm: Algorithm, part: Contribution, answered: Asked, label: Label) -> None:
    digest, block = BLOCKS[answered.block]
    outputs, awake = np.zeros((1, len(MEMBERS), len(CLASSES))), np.zeros((1, len(MEMBERS)), np.bool_)
    for member, output in zip(answered.awake, answered.outputs, strict=True):
        outputs[0, MEMBERS.index(member)] = output
        awake[0, MEMBERS.index(member)] = True
    labelled = Labelled(outputs, awake, np.array([label.label]), np.array([label.weight]), float(block.n))
    algorithm.learn(part, credit_block.decode(digest, block), labelled)


def differ(found: Contribution, wanted: Contribution) -> list[str]:
    """In what two contributions differ by more than rounding; the labels' increments are of the size of 1."""
    names = [name for name in ("n", "clock") if getattr(found, name) != getattr(wanted, name)]
    for name, array in wanted.sums.items():
        if name not in found.sums or np.abs(found.sums[name] - array).max() > 1e-12 * 10 * wanted.n:
            names.append(name)
    return names
