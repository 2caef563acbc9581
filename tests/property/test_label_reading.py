"""Labels read many at a time are, in everything, what they are one by one the plain way."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream_ensemble import compiled
from stream_ensemble.compiled.reading import read_labels
from stream_ensemble.core.labels.records import Feedback
from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.kafka.chunks import Columns, Row
from stream_ensemble.learner.reading import FeedbackReader
from stream_ensemble.messages import FORMAT_COLUMNS, HEADER_FORMAT, HEADER_FORWARDED, HEADER_TRACE, Forwarded
from tests.property.json_values import json_values

PARTITIONS, HERE = 2, 1
IDS = ["r0", "r1", "ürr", "a-longer-one", "x" * 256, "x" * 257, "", "ü" * 256, 'q"']
assert {partition_of(name.encode(), PARTITIONS) for name in IDS[:4]} == {0, 1}

whole = st.integers(-1, 3) | st.sampled_from([2**31 - 1, 2**31, 2**53, 2**53 + 1, 10**30, 1.0, True, None])
fields = st.fixed_dictionaries(
    {},
    optional={
        "version": st.sampled_from([1] * 30 + [2, "1", None]),
        "kind": st.sampled_from(["feedback"] * 30 + ["trial", "control", 7]),
        "request_id": st.sampled_from(IDS),
        "label": whole | st.sampled_from(["x", "süß", "", "x" * 257, "\n"]),
        "at": whole,
        "revision": whole,
        "weight": st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([1, 0.5, 1e6, 1e6 + 1]),
        "unknown": st.recursive(whole, lambda each: st.lists(each) | st.dictionaries(st.text(), each)),
    },
)
usual = st.builds(
    lambda name, label, more: {"version": 1, "kind": "feedback", "request_id": name, "label": label, **more},
    st.sampled_from(IDS[:4]),
    st.integers(0, 2) | st.sampled_from(["x", "süß"]),
    fields.map(lambda found: {k: v for k, v in found.items() if k in ("at", "weight", "unknown")}),
)


values = json_values(usual | fields, sound=8)


FORWARDED = msgspec.json.encode(Forwarded(topic="f", partition=0, offset=3, row=0, appended=9))
headers = st.sampled_from(
    [[]] * 6 + [[(HEADER_TRACE, b"00-1")], [(HEADER_FORWARDED, FORWARDED)], [(HEADER_FORMAT, FORMAT_COLUMNS)]]
)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """A record; most have no key or the right one."""
    value = draw(values)
    key = draw(st.sampled_from([None, None, b"r0", b"", b"\xff"]))
    if value is not None and draw(st.booleans()):
        key = next((name.encode() for name in IDS if name and msgspec.json.encode(name) in value), key)
    return Row(key, value, draw(headers))


def _told(label: Feedback) -> Any:
    return (*label[:-1], label.original(), [type(each) for each in label[:4]])


def _read(columns: Columns) -> list[Any]:
    found = FeedbackReader("feedback", HERE, PARTITIONS, Classes(("x", "y"), 1e-3)).read(columns)
    refused = [(each.offset, each.appended, each.row, str(each.error)) for each in found.refused]
    elsewhere = [(each.partition, _told(each.label)) for each in found.elsewhere]
    return [list(map(_told, found.here)), elsewhere, refused, found.controls, found.trials]


@given(st.lists(rows(), max_size=8))
@example([Row(None, b'{"version":1,"kind":"feedback","request_id":"r0","label":' + b"[" * 99, [])])
@example([Row(None, b'{"version":1,"kind":"feedback","request_id":"r1","label":01}', [])])
@example([Row(None, b'{"version":1,"kind":"feedback","request_id":"r1","label":1,"weight":-0}', [])])
@example([Row(None, b'{"version":1,"kind":"feedback","request_id":"\xff","label":1}', [])])
def test_many_at_a_time_are_read_as_one_by_one(records: list[Row]) -> None:
    count = np.arange(len(records), dtype=np.int64)
    columns = Columns(list(records), 10 + 2 * count, 100 + count)
    found = _read(columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "AVAILABLE", False)
        assert found == _read(columns)


def test_what_a_publisher_writes_is_read_by_the_kernel() -> None:
    key = "rü".encode()
    value = (
        b'{"version":1,"kind":"feedback","request_id":"%b","label":%%b,"at":7,"revision":3,"weight":0.5}'
        % key
    )
    found = read_labels([key, None, b"other"], [value % b"2", value % b'"s\xc3\xbc\xc3\x9f"', value % b"2"])
    assert found == ([key, key, None], ["rü", "rü", None], [2, "süß", None], [3, 3, None], [0.5, 0.5, None])
