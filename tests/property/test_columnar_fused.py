"""Columnar fused records say exactly what the same records say as JSON."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.columnar import fuseds
from stream_ensemble.columnar.fuseds import FusedBatch
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.encode import FusedFormat, FusedRows, plain
from stream_ensemble.kafka.encode_columns import columnar
from stream_ensemble.messages import FORMAT_COLUMNS, HEADER_CREDIT, HEADER_FORMAT, Fused, WeightsVersion
from tests.property.test_fused_encoding import batches


@given(batches())
def test_columns_are_read_back_as_the_records_they_would_be_alone(
    batch: tuple[FusedRows, FusedFormat],
) -> None:
    rows, form = batch
    encoded = columnar(rows, form)
    assert encoded.headers is not None
    assert set(encoded.keys) == {None}
    expected = plain(rows, form)
    begin = 0
    for value, headers, end in zip(encoded.values, encoded.headers, encoded.ends.tolist(), strict=True):
        carried = dict(headers)
        assert carried.pop(HEADER_FORMAT) == FORMAT_COLUMNS
        back = fuseds.unpack(value, carried.pop(HEADER_CREDIT, None))
        assert not carried
        places = encoded.order[begin:end].tolist()
        found = [msgspec.json.encode(record) for record in fuseds.records(back, Fused)]
        assert found == [expected[place] for place in places]
        assert back.traces == {
            i: rows.traces[place] for i, place in enumerate(places) if place in rows.traces
        }
        begin = end
    assert sorted(encoded.order.tolist()) == list(range(len(rows)))


@given(batches())
def test_credit_blocks_stand_in_the_first_record_that_refers_to_them(
    batch: tuple[FusedRows, FusedFormat],
) -> None:
    encoded = columnar(*batch)
    assert encoded.headers is not None
    referring = [
        dict(headers)
        for value, headers in zip(encoded.values, encoded.headers, strict=True)
        if fuseds.unpack(value).head.credit is not None
    ]
    carrying = [place for place, headers in enumerate(referring) if HEADER_CREDIT in headers]
    assert carrying == ([0] if batch[0].blocks and referring else [])


def test_a_record_of_many_rows_is_cut_below_what_brokers_take() -> None:
    rows, form = many(5000)
    encoded = columnar(rows, form)
    assert len(encoded.values) > 1
    assert max(map(len, encoded.values)) < 512 << 10
    assert encoded.ends[-1] == 5000


@given(batches(), st.data())
def test_damaged_columns_are_read_or_refused(
    batch: tuple[FusedRows, FusedFormat], data: st.DataObject
) -> None:
    value = bytearray(columnar(*batch).values[0])
    for _ in range(3):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    try:
        fuseds.records(fuseds.unpack(bytes(value)), Fused)
    except RecordError as refused:
        assert refused.reason and refused.detail


def test_an_answer_without_an_output_is_refused() -> None:
    batch = one()
    batch.outputs = None
    with pytest.raises(RecordError, match="missing-field: no column output"):
        fuseds.unpack(fuseds.pack(batch))


def test_blocks_that_cannot_be_read_are_refused() -> None:
    value = fuseds.pack(one())
    with pytest.raises(RecordError, match="not-json"):
        fuseds.unpack(value, b"{")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"members": ("a", "b")}, "expected 2 of each"),
        ({"classes": ("x",)}, "column output: 2 numbers a row, expected 1"),
        ({"classes": ()}, "wrong-field: .*classes"),
    ],
)
def test_a_head_that_does_not_fit_its_columns_is_refused(wrong: dict[str, object], said: str) -> None:
    batch = one()
    batch.head = msgspec.structs.replace(batch.head, **wrong)
    with pytest.raises(RecordError, match=said):
        fuseds.unpack(fuseds.pack(batch))


def one() -> FusedBatch:
    """One complete record of one member and two classes."""
    head = fuseds.shared(
        status="complete", cause=None, segment=None, members=("a",), topics=("t",), partition=0,
        classes=("x", "y"), asleep=None, weights_version={"generation": 0, "n": 0, "digest": "d"},
        degraded=None, credit=None, config="c",
    )  # type: ignore[arg-type]  # fmt: skip
    return FusedBatch(
        head,
        [b"r"],
        np.array([5]),
        np.array([[0.5, 0.5]]),
        np.array([[[0.5, 0.5]]]),
        np.array([[1]]),
        None,
        np.ones(1),
    )


def many(n: int) -> tuple[FusedRows, FusedFormat]:
    """N complete requests of four members and three classes."""
    everyone = np.full(n, 15, np.uint64)
    rows = FusedRows(
        ids=[b"%032d" % i for i in range(n)],
        status=np.zeros(n, np.uint8),
        cause=np.zeros(n, np.uint8),
        at=np.zeros(n, np.int64),
        outputs=np.full((n, 3), 1 / 3),
        components=np.full((n, 4, 3), 1 / 3),
        offsets=np.zeros((n, 4), np.int64),
        within=None,
        weights=np.full((1, 4), 0.25),
        awake=everyone,
        answered=everyone,
        abstained=np.zeros(n, np.uint64),
        expected=everyone,
        segment=None,
        version=WeightsVersion(generation=0, n=0, digest="d"),
        degraded=None,
        credit=None,
    )
    return rows, FusedFormat(("a", "b", "c", "d"), ("t",) * 4, ("x", "y", "z"), 0, "c")
