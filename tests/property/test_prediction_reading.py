"""Reading predictions: the fast and the careful way agree; a bad record spoils none of its neighbours."""

from __future__ import annotations

import gc
import json
import weakref
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.core.join.records import Predictions
from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.kafka.chunks import Columns
from stream_ensemble.kafka.decode_predictions import PredictionReader
from stream_ensemble.kafka.decode_singles import _BLOCK
from stream_ensemble.messages import HEADER_TRACE

READER = PredictionReader(["a", "b"], [0, 1], Classes(("x", "y"), 1e-6))
NUISANCE = [(HEADER_TRACE, b"00-1-2-01")]


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def record(request_id: str, p: float, headers: list[tuple[str, bytes]], **more: Any) -> Record:
    value = {
        "version": 1,
        "kind": "prediction",
        "request_id": request_id,
        "member": "a",
        "output": [p, 1 - p],
    }
    return Record(request_id.encode(), json.dumps(value | more).encode(), headers)


def columns(records: list[Record]) -> Columns:
    n = len(records)
    return Columns(records, np.arange(n) + 10, np.arange(n) + 1000)


ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
shares = st.floats(0, 1)
good = st.builds(record, ids, shares, st.just([]), at=st.none() | st.integers(0, 2000))


def same(fast: Predictions, slow: Predictions) -> None:
    assert fast.ids == slow.ids
    np.testing.assert_array_equal(fast.outputs, slow.outputs)
    np.testing.assert_array_equal(fast.offsets, slow.offsets)
    at = np.where(fast.at < 0, fast.appended, fast.at)
    np.testing.assert_array_equal(at, slow.at)
    assert [fast.member_of(i) for i in range(len(fast.ids))] == [
        slow.member_of(i) for i in range(len(slow.ids))
    ]
    assert fast.traces == slow.traces
    assert fast.segments == slow.segments


more = {"at": st.none() | st.integers(0, 2000), "segment": st.none() | st.sampled_from(["x", "y"])}
plain = st.builds(record, ids, shares, st.sampled_from([[], NUISANCE]), **more)


@given(st.lists(plain, min_size=1, max_size=20))
def test_the_fast_way_reads_what_the_careful_way_reads(records: list[Record]) -> None:
    [fast], none = READER.read([(0, columns(records))])
    [slow], nothing = READER.singles.read_carefully(0, columns(records))
    assert none == nothing == []
    if not any(b"\0" in each.key for each in records):
        assert isinstance(fast.rows.member, int), "it did not go the fast way"
    same(fast.rows, slow.rows)


@given(
    st.lists(plain, min_size=1, max_size=8),
    st.lists(
        st.builds(record, ids, shares, st.just([]), member=st.just("b"), **more), min_size=1, max_size=8
    ),
)
def test_topics_read_together_are_read_as_by_themselves(first: list[Record], second: list[Record]) -> None:
    [fast], none = READER.read([(0, columns(first)), (1, columns(second))])
    assert none == []
    assert fast.rows.members() == [0, 1]
    assert list(fast.records) == first + second
    topics = np.array([0] * len(first) + [1] * len(second))
    together = Columns(
        first + second,
        np.concatenate([columns(first).offsets, columns(second).offsets]),
        np.concatenate([columns(first).appended, columns(second).appended]),
    )
    [slow], _ = READER.singles.read_carefully(topics, together)
    same(fast.rows, slow.rows)


def test_many_records_are_read_a_block_at_a_time_as_all_at_once() -> None:
    n = 2 * _BLOCK + 3
    records = [
        record(
            f"r{i}",
            i / n,
            NUISANCE if i % 1000 == 7 else [],
            at=i if i % 3 else None,
            segment="x" if i % 900 == 5 else None,
        )
        for i in range(n)
    ]
    [fast], none = READER.read([(0, columns(records))])
    [slow], _ = READER.singles.read_carefully(0, columns(records))
    assert none == [] and isinstance(fast.rows.member, int)
    same(fast.rows, slow.rows)


def test_a_member_in_anothers_topic_is_refused_by_either_way() -> None:
    records = [record("r", 0.5, [], member="b")]
    reads, refused = READER.read([(0, columns(records))])
    assert not reads
    assert [item.error.reason for item in refused] == ["wrong-topic"]
    reads, refused = READER.read([(0, columns(records)), (1, columns([record("q", 0.5, [], member="b")]))])
    assert [read.rows.ids for read in reads] == [[b"q"]]
    assert [(item.topic, item.error.reason) for item in refused] == [(0, "wrong-topic")]


hostile = (
    st.binary(max_size=40) | st.none() | st.builds(lambda x: json.dumps(x).encode(), st.integers() | ids)
)


@given(
    st.lists(good | st.builds(Record, st.none() | st.binary(max_size=8), hostile, st.just([])), max_size=20)
)
def test_every_record_is_either_read_or_refused(records: list[Record]) -> None:
    reads, refused = READER.read([(0, columns(records))])
    places = [offset - 10 for read in reads for offset in read.rows.offsets.tolist()]
    assert sorted(places + [item.offset - 10 for item in refused]) == list(range(len(records)))
    for read in reads:
        for place, row in zip((read.rows.offsets - 10).tolist(), read.records, strict=True):
            assert row is records[place]
    for item in refused:
        assert item.error.reason and item.error.detail
        assert item.record is records[item.offset - 10]


def test_what_was_read_with_a_refused_record_does_not_wait_for_a_collection() -> None:
    bad = [record("r", 0.5, [], member="nobody"), record("s", 0.9, [], output="none")]
    given = columns([record("t", 0.5, []), *bad, Record(b"u", b"{", [])])
    gc.collect()
    gc.disable()
    try:
        _, refused = READER.read([(0, given)])
        freed: list[int] = []
        weakref.finalize(given.appended, freed.append, 1)
        del given
        assert [one.error.reason for one in refused] == ["unknown-member", "wrong-field", "not-json"]
        assert freed
    finally:
        gc.enable()
