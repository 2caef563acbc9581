"""Labels and fused records teach the same, to the last bit, whether they come alone or as rows of records."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.columnar import feedbacks, fuseds
from stream_ensemble.columnar.feedbacks import FeedbackBatch
from stream_ensemble.columnar.fuseds import FusedBatch
from stream_ensemble.core.labels.by_segment import BySegment
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.charging import Learned, charge
from stream_ensemble.core.labels.matching import Charge, take_labels
from stream_ensemble.core.labels.rules import Rules
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.contribution import to_bytes
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.kafka.chunks import Columns, Row
from stream_ensemble.learner import answers
from stream_ensemble.learner.original import unpack
from stream_ensemble.learner.reading import FeedbackReader
from stream_ensemble.messages import (
    FORMAT_ARRAYS,
    FORMAT_COLUMNS,
    HEADER_CREDIT,
    HEADER_FORMAT,
    Credit,
    Feedback,
    Fused,
    Source,
    WeightsVersion,
)
from stream_ensemble.stores.memory_labels import MemoryLabelStore

MEMBERS = ("a", "b", "c")
CLASSES = ("x", "y", "z")
RULES = Rules(Classes(CLASSES), 10**12, 10**12)
OVER = partial(MLPoly, half_life=5.0, floor=0.01)
BLOCKS = [
    credit_block.encode("ml_poly", 0, n, MEMBERS, np.array(values))
    for n, values in ((0, (0.0, 0.0, 0.0)), (7, (1.0, 0.5, 0.25)))
]
PARTITIONS, HERE = 2, 1
IDS = ["r0", "r1", "r2", "ürr", "a-longer-one", "r3"]
assert {partition_of(name.encode(), PARTITIONS) for name in IDS} == {0, 1}

PACK = {FORMAT_COLUMNS: feedbacks.pack, FORMAT_ARRAYS: feedbacks.pack_arrays}
UNPACK = {FORMAT_COLUMNS: feedbacks.unpack, FORMAT_ARRAYS: feedbacks.unpack_arrays}


class Label(NamedTuple):
    """One row. Its label may be no class, or no index at all."""

    request_id: str
    label: int
    revision: int
    weight: float


labels = st.builds(
    Label,
    st.sampled_from(IDS),
    st.integers(-1, 3),
    st.integers(0, 2),
    st.sampled_from([1.0, 1.0, 0.5, 0.1, 3.0, 2e6]),
)
batches = st.lists(st.lists(labels, min_size=1, max_size=5), max_size=4)


class World(NamedTuple):
    """Fused records of rows that are alike, and batches of labels, each appended at once."""

    fused: list[FusedBatch]
    feedback: list[list[Label]]
    labels_first: bool


@st.composite
def worlds(draw: st.DrawFn) -> World:
    asked = draw(st.lists(st.sampled_from(IDS), unique=True))
    cut = draw(st.integers(0, len(asked)))
    groups = [group for group in (asked[:cut], asked[cut:]) if group]
    return World([draw(alike(group)) for group in groups], draw(batches), draw(st.booleans()))


@st.composite
def alike(draw: st.DrawFn, asked: Sequence[str]) -> FusedBatch:
    digest, block = draw(st.sampled_from(BLOCKS))
    awake = tuple(draw(st.lists(st.sampled_from(MEMBERS), min_size=1, unique=True)))
    segment = draw(st.sampled_from([None, "north"]))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    head = fuseds.shared(
        status="partial",
        cause="deadline",
        segment=segment,
        members=awake,
        topics=awake,
        partition=HERE,
        classes=CLASSES,
        asleep=None,
        weights_version=WeightsVersion(generation=0, n=0, digest="d"),
        degraded=None,
        credit=Credit(everywhere=digest, segment=digest if segment else None),
        config="c",
    )
    return FusedBatch(
        head,
        [request_id.encode() for request_id in asked],
        np.arange(len(asked)),
        rng.dirichlet(np.ones(3), len(asked)),
        rng.dirichlet(np.ones(3), (len(asked), len(awake))).astype(draw(st.sampled_from(["<f4", "<f8"]))),
        np.zeros((len(asked), len(awake)), np.int64),
        blocks={digest: block} if draw(st.integers(0, 3)) else None,
    )


class Outcome(NamedTuple):
    """What became of everything. A label is named by its number, in order of the topic."""

    learned: dict[str | None, bytes]
    verdicts: dict[str, tuple[Any, ...] | None]
    dead: list[tuple[str, int]]
    refused: list[tuple[str, int]]
    elsewhere: list[tuple[int, int]]
    counts: dict[str, int]


class Learner:
    """Reads the topics as one partition does.

    Args:
        form: of the labels; None: each alone.
        columns: are fused records columnar?
    """

    def __init__(self, world: World, form: bytes | None, columns: bool) -> None:
        self._world = world
        self._form = form
        self._columns = columns
        self._first = np.cumsum([0, *map(len, world.feedback)]).tolist()
        self._changes = Changes(MemoryLabelStore())
        self._charges: list[Charge] = []

    def outcome(self) -> Outcome:
        steps = [self._take_fused, self._take_labels]
        for step in reversed(steps) if self._world.labels_first else steps:
            step()
        learned = charge(Learned(0, BySegment()), self._charges, self._changes, OVER).learned
        verdicts = {}
        for request_id, verdict in self._changes.verdicts.items():
            said = None
            if verdict is not None:
                said = (*msgspec.structs.astuple(verdict)[:5], self._number(verdict.origin))
                self._check_original(verdict.record, verdict.origin)
            verdicts[request_id] = said
        for dead in self._changes.dead:
            self._check_original(dead.record, dead.origin)
        return Outcome(
            {segment: to_bytes(part) for segment, part in learned.by_segment.items()},
            verdicts,
            [(dead.reason, self._number(dead.origin)) for dead in self._changes.dead],
            sorted(self._refused),
            self._elsewhere,
            dict(self._changes.counts),
        )

    def _take_fused(self) -> None:
        for offset, batch in enumerate(self._world.fused):
            for record in self._fused(batch):
                self._charges += answers.take(self._changes, RULES, record, offset, 1000)

    def _fused(self, batch: FusedBatch) -> list[Row]:
        if self._columns:
            headers = [(HEADER_FORMAT, FORMAT_COLUMNS)]
            if batch.blocks is not None:
                headers.append((HEADER_CREDIT, fuseds.pack_blocks(batch.blocks)))
            return [Row(None, fuseds.pack(batch), headers)]
        rows = fuseds.records(batch, Fused)
        return [Row(row.request_id.encode(), msgspec.json.encode(row), []) for row in rows]

    def _take_labels(self) -> None:
        self._records = [record for rows in self._world.feedback for record in self._feedback(rows)]
        counts = list(map(len, self._world.feedback)) if self._form is None else [1] * len(self._records)
        appended = np.repeat(2000 + np.arange(len(self._world.feedback)), counts)
        reader = FeedbackReader("feedback", HERE, PARTITIONS, Classes(("x", "y", "z"), 1e-3))
        found = reader.read(Columns(self._records, np.arange(len(self._records)), appended))
        self._charges += take_labels(self._changes, RULES, found.here, 0)
        self._elsewhere = [(item.partition, self._number(item.label.origin)) for item in found.elsewhere]
        self._refused: list[tuple[str, int]] = []
        for item in found.refused:
            rows: Sequence[int] = [item.row]
            if self._form is not None and item.record is self._records[item.offset]:
                rows = range(len(self._world.feedback[item.offset]))
            numbers = [self._number(("feedback", HERE, item.offset, row)) for row in rows]
            self._refused += [(item.error.reason, number) for number in numbers]

    def _feedback(self, rows: list[Label]) -> list[Row]:
        if self._form is None:
            message = {"version": 1, "kind": "feedback"}
            return [
                Row(row.request_id.encode(), msgspec.json.encode(message | row._asdict()), []) for row in rows
            ]
        batch = FeedbackBatch(
            [row.request_id.encode() for row in rows],
            [row.label for row in rows],
            None,
            np.array([row.revision for row in rows]),
            np.array([row.weight for row in rows]),
        )
        return [Row(None, PACK[self._form](batch), [(HEADER_FORMAT, self._form)])]

    def _number(self, origin: Source) -> int:
        _, _, offset, row = origin
        return offset if self._form is None else int(self._first[offset]) + row

    def _check_original(self, record: bytes, origin: Source) -> None:
        """What is kept of a label is that label, in the form it came in."""
        if not record:
            return
        rows = [row for rows in self._world.feedback for row in rows]
        expected = rows[self._number(origin)]
        value = unpack(record).value or b""
        if self._form is None:
            message = msgspec.json.decode(value, type=Feedback)
        else:
            batch = UNPACK[self._form](value)
            assert len(batch) == 1
            message = batch.message(0)
        found = Label(message.request_id, int(message.label), message.revision, message.weight)
        assert found == expected


@given(worlds())
def test_rows_teach_what_the_same_records_alone_teach_to_the_last_bit(world: World) -> None:
    alone = Learner(world, None, columns=False).outcome()
    for form in (None, FORMAT_COLUMNS, FORMAT_ARRAYS):
        for columns in (False, True):
            assert Learner(world, form, columns).outcome() == alone
