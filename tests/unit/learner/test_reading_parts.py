"""Labels of parts as any client may write them: single, as arrays, as columns, alike to the last field."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from stream_ensemble.columnar import part_feedbacks
from stream_ensemble.columnar.feedback_batch import FeedbackBatch
from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.core.tasks.forecast import Horizons
from stream_ensemble.core.tasks.multilabel import ManyLabels
from stream_ensemble.kafka.chunks import Columns, Row
from stream_ensemble.learner.original import unpack
from stream_ensemble.learner.reading import FeedbackReader, Labels
from stream_ensemble.messages import FORMAT_ARRAYS, FORMAT_COLUMNS, HEADER_FORMAT, PartLabel

HERE, ELSEWHERE = (next(f"r{i}" for i in range(99) if partition_of(b"r%d" % i, 2) == p) for p in (0, 1))
LABEL: dict[str, Any] = {"version": 1, "kind": "feedback", "request_id": HERE, "part": "6h", "label": 2.5}


def read(*rows: Row, domain: Any = None) -> Labels:
    count = np.arange(len(rows))
    reader = FeedbackReader("feedback", 0, 2, domain or Horizons(("1h", "6h")))
    return reader.read(Columns(list(rows), 10 + count, 100 + count))


def single(**more: Any) -> Row:
    fields = {name: value for name, value in (LABEL | more).items() if value is not None}
    return Row(str(fields.get("request_id", "")).encode(), msgspec.json.encode(fields), [])


@pytest.mark.parametrize(
    ("more", "label"),
    [
        ({}, PartLabel("6h", 2.5)),
        ({"part": 1, "label": -3}, PartLabel(1, -3.0)),
        ({"label": True}, PartLabel("6h", True)),
    ],
)
def test_a_label_says_what_it_is_about(more: dict[str, Any], label: PartLabel) -> None:
    [found] = read(single(revision=3, weight=0.5, **more)).here
    assert (found.request_id, found.label, found.revision, found.weight) == (HERE, label, 3, 0.5)
    assert (found.appended, found.origin) == (100, ("feedback", 0, 10, 0))
    assert isinstance(found.label, PartLabel)
    assert type(found.label.value) is type(label.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"part": None}, "missing-field"),
        ({"label": None}, "missing-field"),
        ({"label": "2.5"}, "wrong-field"),
        ({"part": -1}, "wrong-field"),
        ({"part": ""}, "wrong-field"),
        ({"part": "x" * 257}, "wrong-field"),
        ({"revision": -1}, "wrong-field"),
        ({"weight": 0}, "wrong-field"),
    ],
)
def test_one_that_does_not_is_refused(more: dict[str, Any], said: str) -> None:
    found = read(single(**more))
    assert not found.here
    assert [each.error.reason for each in found.refused] == [said]


def test_a_label_of_the_whole_is_refused_where_labels_are_about_parts() -> None:
    [refused] = read(single(part=None, label="6h"), domain=ManyLabels(("1h", "6h"))).refused
    assert refused.error.reason in ("missing-field", "wrong-field")


@pytest.mark.parametrize("form", [FORMAT_COLUMNS, FORMAT_ARRAYS])
def test_rows_say_what_the_same_labels_alone_say(form: bytes) -> None:
    pack = part_feedbacks.pack if form == FORMAT_COLUMNS else part_feedbacks.pack_arrays
    labels: list[Any] = [PartLabel(1, 2.5), PartLabel(0, -1.0), PartLabel(1, 9.0)]
    batch = FeedbackBatch(
        [HERE.encode(), HERE.encode(), ELSEWHERE.encode()], labels, revisions=np.array([3, 0, 1])
    )
    found = read(Row(None, pack(batch), [(HEADER_FORMAT, form)]))
    assert [(each.label, each.revision, each.origin) for each in found.here] == [
        (PartLabel(1, 2.5), 3, ("feedback", 0, 10, 0)),
        (PartLabel(0, -1.0), 0, ("feedback", 0, 10, 1)),
    ]
    [stray] = found.elsewhere
    assert (stray.partition, stray.label.request_id, stray.label.label) == (1, ELSEWHERE, PartLabel(1, 9.0))
    # What goes to dead-letter or elsewhere is the row alone, in the form it came in.
    alone = unpack(stray.label.original())
    assert alone.headers == [(HEADER_FORMAT, form)]
    again = (part_feedbacks.unpack if form == FORMAT_COLUMNS else part_feedbacks.unpack_arrays)(
        alone.value or b""
    )
    assert (again.ids, again.labels) == ([ELSEWHERE.encode()], [PartLabel(1, 9.0)])
