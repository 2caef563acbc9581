"""Feedback records sorted into labels for here, labels for elsewhere, and what cannot be used."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np

from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.kafka.chunks import Columns
from stream_ensemble.learner.original import Original, unpack
from stream_ensemble.learner.reading import FeedbackReader, Labels

PARTITIONS = 4


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: Any = ()


def value(request_id: str, **more: Any) -> bytes:
    record = {"version": 1, "kind": "feedback", "request_id": request_id, "label": "cat"}
    return json.dumps(record | more).encode()


def read(*records: Record, partition: int) -> Labels:
    reader = FeedbackReader("feedback", partition, PARTITIONS, Classes(("x", "y", "z"), 1e-3))
    offsets = np.arange(100, 100 + len(records))
    return reader.read(Columns(list(records), offsets, offsets * 10))


def home(request_id: str) -> int:
    return partition_of(request_id.encode(), PARTITIONS)


def moved(**more: Any) -> list[tuple[str, bytes]]:
    origin = {"topic": "feedback", "partition": 3, "offset": 7, "row": 2, "appended": 55}
    return [("traceparent", b"t"), ("stream-ensemble-forwarded", json.dumps(origin | more).encode())]


def test_a_label_at_home_is_read_with_its_place_and_kept_as_it_came() -> None:
    record = Record(b"r", value("r", revision=3, weight=0.5), [("traceparent", b"t")])
    found = read(record, partition=home("r"))
    (label,) = found.here
    assert (label.request_id, label.label, label.revision, label.weight) == ("r", "cat", 3, 0.5)
    assert (label.appended, label.origin) == (1000, ("feedback", home("r"), 100, 0))
    assert unpack(label.original()) == Original(b"r", record.value, [("traceparent", b"t")])


def test_a_forwarded_label_keeps_when_and_where_it_was_first_written() -> None:
    (label,) = read(Record(b"r", value("r"), moved()), partition=home("r")).here
    assert (label.appended, label.origin) == (55, ("feedback", 3, 7, 2))


def test_a_null_key_is_no_fault_and_a_misplaced_label_is_for_elsewhere() -> None:
    wrong = (home("r") + 1) % PARTITIONS
    found = read(Record(None, value("r")), partition=wrong)
    (item,) = found.elsewhere
    assert item.partition == home("r")
    assert (item.label.origin, item.label.appended) == (("feedback", wrong, 100, 0), 1000)
    assert read(Record(None, value("r")), partition=home("r")).here


def test_a_label_is_forwarded_only_once() -> None:
    wrong = (home("r") + 1) % PARTITIONS
    found = read(Record(b"r", value("r"), moved()), partition=wrong)
    assert found.elsewhere == []
    assert [item.error.reason for item in found.refused] == ["misrouted"]


def test_one_bad_record_does_not_hide_the_others() -> None:
    partition = home("r")
    found = read(
        Record(b"r", b"{"),
        Record(b"other", value("r")),
        Record(b"r", value("r"), [("stream-ensemble-forwarded", b"{")]),
        Record(b"r", value("r", weight=-1)),
        Record(b"r", value("r")),
        partition=partition,
    )
    assert [item.error.reason for item in found.refused] == [
        "not-json",
        "key-mismatch",
        "wrong-header",
        "wrong-field",
    ]
    assert [item.offset for item in found.refused] == [100, 101, 102, 103]
    assert len(found.here) == 1


def test_nothing_read_is_nothing_found() -> None:
    assert read(partition=0) == Labels()


def control(**more: Any) -> bytes:
    record = {"version": 1, "kind": "control", "number": 3, "id": "x", "action": "unpin"}
    return json.dumps(record | more).encode()


def test_a_control_record_among_labels_is_read_and_counts_as_no_label() -> None:
    found = read(Record(None, control()), Record(b"r", value("r")), partition=home("r"))
    assert [(each.number, each.action) for each in found.controls] == [(3, "unpin")]
    assert [label.request_id for label in found.here] == ["r"]
    assert (len(found), found.refused, found.controls_appended) == (1, [], [1000])


def test_a_control_record_that_is_not_understood_is_refused_with_its_reason() -> None:
    reasons = {
        control(action="explode"): "unknown-control",
        control(action=7): "unknown-control",
        control(version=2): "wrong-version",
        control(action="reset"): "missing-field",
        control(number="x"): "wrong-field",
        control(kind="other"): "wrong-kind",
        b'{"kind": "control", "action": "unpin"}': "missing-field",
    }
    found = read(*(Record(None, each) for each in reasons), partition=0)
    assert found.controls == []
    assert [each.error.reason for each in found.refused] == list(reasons.values())
    assert [each.offset for each in found.refused] == list(range(100, 100 + len(reasons)))
