"""Feedback records with many rows: each is a label of its own, with a place and a fate of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
from aiokafka.structs import TopicPartition

from stream_ensemble.columnar import feedbacks
from stream_ensemble.columnar.feedbacks import FeedbackBatch
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.matching import take_labels
from stream_ensemble.core.labels.rules import Rules
from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.kafka.chunks import Columns, Row
from stream_ensemble.kafka.decode import Refused
from stream_ensemble.learner import records
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.learner.original import Original, unpack
from stream_ensemble.learner.reading import FeedbackReader, Labels
from stream_ensemble.messages import (
    FORMAT_ARRAYS,
    FORMAT_COLUMNS,
    HEADER_DEAD_LETTER,
    HEADER_FORMAT,
    HEADER_FORWARDED,
    Feedback,
)
from stream_ensemble.stores.memory_labels import MemoryLabelStore

PARTITIONS = 4
HERE, AWAY = 2, 3
TRACE = ("traceparent", b"t")


class Form(NamedTuple):
    """One of the two forms of a record with rows."""

    header: tuple[str, bytes]
    pack: Callable[[FeedbackBatch], bytes]
    unpack: Callable[[bytes], FeedbackBatch]

    def record(self, *rows: tuple[str, Any]) -> Row:
        """A record of rows of (id, label)."""
        batch = FeedbackBatch([name.encode() for name, _ in rows], [label for _, label in rows])
        return self.of(batch)

    def of(self, batch: FeedbackBatch, *headers: tuple[str, bytes]) -> Row:
        return Row(None, self.pack(batch), [TRACE, self.header, *headers])


COLUMNS = Form((HEADER_FORMAT, FORMAT_COLUMNS), feedbacks.pack, feedbacks.unpack)
ARRAYS = Form((HEADER_FORMAT, FORMAT_ARRAYS), feedbacks.pack_arrays, feedbacks.unpack_arrays)
both = pytest.mark.parametrize("form", [COLUMNS, ARRAYS], ids=["columns", "arrays"])


def named(partition: int, count: int) -> list[str]:
    """Ids that belong to a partition."""
    some = (f"r{n}" for n in range(1000))
    return [name for name in some if partition_of(name.encode(), PARTITIONS) == partition][:count]


def single(request_id: str) -> Row:
    value = {"version": 1, "kind": "feedback", "request_id": request_id, "label": 0}
    return Row(request_id.encode(), json.dumps(value).encode(), [])


def read(*found: Row) -> Labels:
    offsets = np.arange(100, 100 + len(found))
    return FeedbackReader("feedback", HERE, PARTITIONS, Classes(("x", "y", "z"), 1e-3)).read(
        Columns(list(found), offsets, offsets * 10)
    )


def said(form: Form, record: Any) -> list[Feedback]:
    """The labels in a record of this form."""
    assert dict(record.headers)[HEADER_FORMAT] == form.header[1]
    batch = form.unpack(record.value)
    return [batch.message(row) for row in range(len(batch))]


def moved(**more: Any) -> tuple[str, bytes]:
    origin = {"topic": "feedback", "partition": 3, "offset": 7, "row": 12, "appended": 55}
    return HEADER_FORWARDED, json.dumps(origin | more).encode()


ENSEMBLE = cast(
    "LearnedEnsemble",
    SimpleNamespace(
        topics=SimpleNamespace(dead_letter="dead"), feedback=lambda p: TopicPartition("feedback", p)
    ),
)


@both
def test_rows_and_single_labels_come_in_the_order_of_the_topic_each_with_its_place(form: Form) -> None:
    a, b, c, d, e = named(HERE, 5)
    found = read(single(a), form.record((b, 1), (c, 2), (d, 0)), single(e))
    assert [label.request_id for label in found.here] == [a, b, c, d, e]
    assert [label.label for label in found.here] == [0, 1, 2, 0, 0]
    assert [label.origin[2:] for label in found.here] == [(100, 0), (101, 0), (101, 1), (101, 2), (102, 0)]
    assert {label.origin[:2] for label in found.here} == {("feedback", HERE)}
    assert [label.appended for label in found.here] == [1000, 1010, 1010, 1010, 1020]
    assert (found.elsewhere, found.refused, len(found)) == ([], [], 5)


@both
def test_a_row_has_the_revision_and_weight_of_its_columns_or_what_absence_means(form: Form) -> None:
    a, b = named(HERE, 2)
    batch = FeedbackBatch([a.encode(), b.encode()], [0, 1])
    plain = read(form.of(batch)).here
    batch.revisions, batch.weights = np.array([3, 0]), np.array([0.5, 2.5])
    full = read(form.of(batch)).here
    assert [(label.revision, label.weight) for label in plain] == [(0, 1.0), (0, 1.0)]
    assert [(label.revision, label.weight) for label in full] == [(3, 0.5), (0, 2.5)]
    assert {type(label.revision) for label in full} == {int}


@both
def test_what_is_kept_of_a_row_is_a_record_of_that_row_alone_in_its_form(form: Form) -> None:
    names = named(HERE, 200)
    record = form.record(*((name, n % 3) for n, name in enumerate(names)))
    label = read(record).here[7]
    kept = unpack(label.original())
    assert (kept.key, kept.headers) == (None, [TRACE, form.header])
    (alone,) = said(form, kept)
    assert (alone.request_id, alone.label) == (names[7], 7 % 3)
    assert kept.value is not None and record.value is not None
    assert len(kept.value) < len(record.value) / 5


@both
def test_misplaced_rows_move_each_by_itself_in_their_form_and_say_which_row_they_were(form: Form) -> None:
    (a, b), (c, d) = named(HERE, 2), named(AWAY, 2)
    found = read(form.record((a, 0), (c, 1), (b, 0), (d, 2)))
    assert [label.request_id for label in found.here] == [a, b]
    for item, name, label, row in zip(found.elsewhere, (c, d), (1, 2), (1, 3), strict=True):
        going = records.forwarded(ENSEMBLE, item)
        assert (going.tp, going.key) == (TopicPartition("feedback", AWAY), None)
        assert list(going.headers)[:2] == [TRACE, form.header]
        (alone,) = said(form, going)
        assert (alone.request_id, alone.label) == (name, label)
        origin = {"topic": "feedback", "partition": HERE, "offset": 100, "row": row, "appended": 1000}
        assert json.loads(dict(going.headers)[HEADER_FORWARDED] or b"") == origin


def test_a_single_label_still_moves_with_its_id_as_key() -> None:
    (name,) = named(AWAY, 1)
    (item,) = read(single(name)._replace(key=None)).elsewhere
    assert records.forwarded(ENSEMBLE, item).key == name.encode()


@both
def test_a_forwarded_row_keeps_when_and_where_it_was_first_written(form: Form) -> None:
    (name,) = named(HERE, 1)
    (label,) = read(form.of(FeedbackBatch([name.encode()], [1]), moved())).here
    assert (label.appended, label.origin) == (55, ("feedback", 3, 7, 12))


@both
def test_a_forwarded_row_is_not_forwarded_again_and_dies_as_it_came(form: Form) -> None:
    (name,) = named(AWAY, 1)
    record = form.of(FeedbackBatch([name.encode()], [1]), moved())
    found = read(single(named(HERE, 1)[0]), record)
    assert found.elsewhere == []
    (refused,) = found.refused
    assert (refused.error.reason, refused.offset, refused.appended, refused.row) == (
        "misrouted",
        101,
        1010,
        0,
    )
    assert (refused.record.value, refused.record.headers) == (record.value, record.headers)


def dead_letter(refused: Refused) -> tuple[Original, dict[str, Any]]:
    tp = TopicPartition("feedback", HERE)
    outgoing = records.refused(ENSEMBLE, tp, refused)
    header = json.loads(dict(outgoing.headers)[HEADER_DEAD_LETTER] or b"")
    return Original(outgoing.key, outgoing.value, list(outgoing.headers)[:-1]), header


def test_a_bad_row_of_columns_dies_alone_with_its_row_and_its_neighbours_are_read() -> None:
    a, b, c, d = named(HERE, 4)
    batch = FeedbackBatch(
        [a.encode(), b.encode(), b"\xff", c.encode(), d.encode()],
        [0, -5, 1, 2, 1],
        revisions=np.array([0, 0, 0, 2**60, 9]),
    )
    found = read(COLUMNS.of(batch))
    assert [(label.request_id, label.label, label.revision) for label in found.here] == [(a, 0, 0), (d, 1, 9)]
    assert [label.origin[3] for label in found.here] == [0, 4]
    assert [(item.row, item.error.reason) for item in found.refused] == [
        (row, "wrong-field") for row in (1, 2, 3)
    ]
    for item, request_id, label in zip(
        found.refused, (b.encode(), b"\xff", c.encode()), (-5, 1, 2), strict=True
    ):
        original, header = dead_letter(item)
        assert (header["offset"], header["row"], header["partition"]) == (100, item.row, HERE)
        assert (original.key, original.headers) == (None, [TRACE, COLUMNS.header])
        alone = feedbacks.unpack(original.value or b"")
        assert (alone.ids, alone.labels, list(alone.wrong)) == ([request_id], [label], [0])


def test_a_bad_row_of_arrays_dies_alone_with_its_own_bytes() -> None:
    a, b = named(HERE, 2)
    arrays = {"version": 1, "kind": "feedbacks", "request_ids": [a, 7, b], "labels": [0, 1, {"odd": [1.50]}]}
    found = read(Row(None, json.dumps(arrays).encode(), [ARRAYS.header]))
    assert [label.request_id for label in found.here] == [a]
    assert [(item.row, item.error.reason) for item in found.refused] == [
        (1, "wrong-field"),
        (2, "wrong-field"),
    ]
    original, header = dead_letter(found.refused[1])
    assert header["row"] == 2
    alone = json.loads(original.value or b"")
    assert (alone["request_ids"], alone["labels"]) == ([b], [{"odd": [1.5]}])


@pytest.mark.parametrize(
    ("form", "label", "reason"), [(ARRAYS, "cow", "unknown-class"), (COLUMNS, 7, "label-out-of-range")]
)
def test_a_row_that_names_no_class_of_the_task_dies_alone_with_its_row(
    form: Form, label: Any, reason: str
) -> None:
    a, b, c = named(HERE, 3)
    changes = Changes(MemoryLabelStore())
    found = read(form.record((a, 0), (b, label), (c, 1)))
    take_labels(changes, Rules(Classes(("x", "y")), 1000, 1000), found.here, 0)
    assert changes.verdicts.keys() == {a, c}
    (dead,) = changes.dead
    outgoing = records.dead_label(ENSEMBLE, dead)
    header = json.loads(dict(outgoing.headers)[HEADER_DEAD_LETTER] or b"")
    assert (header["reason"], header["offset"], header["row"]) == (reason, 100, 1)
    (alone,) = said(form, outgoing)
    assert (outgoing.key, alone.request_id, alone.label) == (None, b, label)


def test_a_record_of_one_row_is_kept_down_to_the_byte() -> None:
    arrays = {"version": 1, "kind": "feedbacks", "request_ids": named(HERE, 1), "labels": [0], "more": 1}
    record = Row(None, json.dumps(arrays, indent=2).encode(), [ARRAYS.header])
    (label,) = read(record).here
    assert unpack(label.original()) == Original(*record)


def test_a_record_of_one_bad_row_dies_as_it_came() -> None:
    value = json.dumps({"version": 1, "kind": "feedbacks", "request_ids": [""], "labels": [0], "extra": 1})
    (one,) = read(Row(b"key", value.encode(), [ARRAYS.header])).refused
    assert one.record.value == value.encode()
    batch = FeedbackBatch([named(HERE, 1)[0].encode()], [-1])
    record = COLUMNS.of(batch)
    (refused,) = read(record).refused
    assert dead_letter(refused)[0] == Original(None, record.value, record.headers)


COLUMNAR = COLUMNS.record(*((name, 0) for name in named(HERE, 3))).value or b""


@pytest.mark.parametrize(
    ("value", "form", "reason"),
    [
        (COLUMNAR[:-1], FORMAT_COLUMNS, "damaged"),
        (b"", FORMAT_COLUMNS, "empty-value"),
        (None, FORMAT_COLUMNS, "empty-value"),
        (None, FORMAT_ARRAYS, "empty-value"),
        (COLUMNAR, FORMAT_ARRAYS, "not-json"),
        (single("r").value, FORMAT_ARRAYS, "wrong-kind"),
        (COLUMNAR, b"columns-2", "wrong-header"),
        (COLUMNAR, None, "wrong-header"),
        (b'{"x":' + b"[" * 100_000, FORMAT_ARRAYS, "not-json"),
    ],
)
def test_a_record_that_cannot_be_read_dies_whole_and_alone(
    value: bytes | None, form: Any, reason: str
) -> None:
    a, b = named(HERE, 2)
    record = Row(None, value, [(HEADER_FORMAT, form)])
    found = read(single(a), record, single(b))
    assert [label.request_id for label in found.here] == [a, b]
    (refused,) = found.refused
    assert (refused.error.reason, refused.offset, refused.row) == (reason, 101, 0)
    assert refused.record is record


@both
def test_a_forwarded_header_that_cannot_be_read_spoils_the_record(form: Form) -> None:
    record = form.of(FeedbackBatch([named(HERE, 1)[0].encode()], [1]), (HEADER_FORWARDED, b"{"))
    found = read(record)
    assert [(item.error.reason, item.record) for item in found.refused] == [("wrong-header", record)]
    assert found.here == []


def test_a_single_label_nested_without_end_is_refused_like_any_other() -> None:
    deep = b'{"version":1,"kind":"feedback","request_id":"r","label":0,"x":' + b"[" * 100_000
    (refused,) = read(Row(b"r", deep, [])).refused
    assert refused.error.reason == "not-json"
