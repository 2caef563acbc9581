"""Reading predictions: the fast and the careful way agree; a bad record spoils none of its neighbours."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.kafka.chunks import Columns
from stream_ensemble.kafka.decode import PredictionReader
from stream_ensemble.messages import HEADER_TRACE

READER = PredictionReader(["a", "b"], [0, 1], 2, 1e-6)
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


@given(st.lists(good, min_size=1, max_size=20))
def test_the_fast_way_reads_what_the_careful_way_reads(records: list[Record]) -> None:
    # A header on one record sends the whole chunk the careful way.
    careful = [r._replace(headers=NUISANCE if i == 0 else []) for i, r in enumerate(records)]
    [fast], none = READER.read(0, columns(records))
    [slow], nothing = READER.read(0, columns(careful))
    assert none == nothing == []
    assert fast.rows.ids == slow.rows.ids
    np.testing.assert_array_equal(fast.rows.outputs, slow.rows.outputs)
    np.testing.assert_array_equal(fast.rows.offsets, slow.rows.offsets)
    at = np.where(fast.rows.at < 0, fast.rows.appended, fast.rows.at)
    np.testing.assert_array_equal(at, slow.rows.at)
    assert slow.rows.traces == {0: NUISANCE[0][1]}


hostile = (
    st.binary(max_size=40) | st.none() | st.builds(lambda x: json.dumps(x).encode(), st.integers() | ids)
)


@given(
    st.lists(good | st.builds(Record, st.none() | st.binary(max_size=8), hostile, st.just([])), max_size=20)
)
def test_every_record_is_either_read_or_refused(records: list[Record]) -> None:
    reads, refused = READER.read(0, columns(records))
    places = [offset - 10 for read in reads for offset in read.rows.offsets.tolist()]
    assert sorted(places + [item.offset - 10 for item in refused]) == list(range(len(records)))
    for read in reads:
        for place, row in zip((read.rows.offsets - 10).tolist(), read.records, strict=True):
            assert row is records[place]
    for item in refused:
        assert item.error.reason and item.error.detail
        assert item.record is records[item.offset - 10]
