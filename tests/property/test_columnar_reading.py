"""Columnar predictions are read as the same predictions are one by one, whatever the form."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.columnar.predictions import PredictionBatch, pack, pack_arrays
from stream_ensemble.core.join.records import NO_TIME, Answer
from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.kafka.chunks import Columns, Row
from stream_ensemble.kafka.decode import Read
from stream_ensemble.kafka.decode_predictions import PredictionReader
from stream_ensemble.messages import (
    FORMAT_ARRAYS,
    FORMAT_COLUMNS,
    HEADER_FORMAT,
    HEADER_FORWARDED,
    HEADER_TRACE,
    Forwarded,
)

#: Topic 0 is a's alone; b and c share topic 1.
READER = PredictionReader(["a", "b", "c"], [0, 1, 1], Classes(("x", "y"), 1e-3))
FORMS: dict[bytes, Callable[[PredictionBatch], bytes]] = {FORMAT_COLUMNS: pack, FORMAT_ARRAYS: pack_arrays}


class Said(NamedTuple):
    """One prediction; ``share`` is that of class 0, and wrong where it is above 1."""

    request_id: str
    share: float
    answer: Answer
    at: int
    segment: str | None
    trace: str | None

    @property
    def output(self) -> list[float]:
        return [self.share, 1 - self.share]

    def single(self, member: str) -> Row:
        record: dict[str, Any] = {"version": 1, "kind": "prediction", "member": member}
        record["request_id"] = self.request_id
        if self.answer == Answer.OUTPUT:
            record["output"] = self.output
        elif self.answer == Answer.ABSTAIN:
            record["abstain"] = True
        else:
            record["error"] = "broken"
        if self.at != NO_TIME:
            record["at"] = self.at
        if self.segment is not None:
            record["segment"] = self.segment
        headers = [] if self.trace is None else [(HEADER_TRACE, self.trace.encode())]
        return Row(self.request_id.encode(), json.dumps(record).encode(), headers)


said = st.builds(
    Said,
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=5),
    st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5]),
    st.sampled_from(list(Answer)),
    st.sampled_from([NO_TIME, 5, 999]),
    st.none() | st.sampled_from(["x", "y"]),
    st.none() | st.just("00-1-2-01"),
)
plain = st.builds(
    Said,
    st.text("abc", min_size=3, max_size=3),
    st.sampled_from([0.25, 0.5]),
    st.just(Answer.OUTPUT),
    st.sampled_from([5, 999]),
    st.none(),
    st.none(),
)


def batch_of(member: str, rows: list[Said]) -> PredictionBatch:
    return PredictionBatch(
        member,
        [row.request_id.encode() for row in rows],
        np.array([row.output for row in rows]),
        np.array([row.at for row in rows]),
        np.array([row.answer for row in rows], np.uint8),
        {r: "broken" for r, row in enumerate(rows) if row.answer == Answer.ERROR},
        {r: row.segment for r, row in enumerate(rows) if row.segment is not None},
        {r: row.trace.encode() for r, row in enumerate(rows) if row.trace is not None},
    )


def columnar(form: bytes, member: str, rows: list[Said]) -> Row:
    return Row(None, FORMS[form](batch_of(member, rows)), [(HEADER_FORMAT, form)])


def columns(records: list[Row], first: int = 10) -> Columns:
    n = len(records)
    return Columns(records, np.arange(first, first + n), np.full(n, 1000))


def everything(reads: list[Read]) -> list[tuple[object, ...]]:
    """Every prediction that was read, in order."""
    found: list[tuple[object, ...]] = []
    for read in reads:
        rows = read.rows
        for i, request_id in enumerate(rows.ids):
            answer = Answer.OUTPUT if rows.answers is None else Answer(rows.answers[i])
            at = int(rows.appended[i]) if rows.at[i] == NO_TIME else int(rows.at[i])
            output = rows.outputs[i].tolist() if answer == Answer.OUTPUT else None
            found.append(
                (
                    rows.member_of(i), request_id, answer, output, at,
                    rows.segments.get(i), rows.traces.get(i), i in rows.forwarded,
                )
            )  # fmt: skip
    return found


@pytest.mark.parametrize("form", FORMS)
@given(rows=st.lists(said, min_size=1, max_size=12), cut=st.integers(1, 12))
def test_every_row_is_read_or_refused_as_it_would_be_alone(form: bytes, rows: list[Said], cut: int) -> None:
    parts = [rows[begin : begin + cut] for begin in range(0, len(rows), cut)]
    records = [columnar(form, "b", part) for part in parts]
    reads, refused = READER.read([(1, columns(records))])
    alone, refused_alone = READER.read([(1, columns([row.single("b") for row in rows]))])
    assert everything(reads) == everything(alone)
    places = {10 + number: number * cut for number in range(len(parts))}
    assert [(places[item.offset] + item.row, item.error.reason) for item in refused] == [
        (item.offset - 10, item.error.reason) for item in refused_alone
    ]
    read_back = [
        (int(o), int(r)) for read in reads for o, r in zip(read.rows.offsets, rows_of(read), strict=True)
    ]
    bad = [(item.offset, item.row) for item in refused]
    expected = [(10 + number, row) for number, part in enumerate(parts) for row in range(len(part))]
    assert sorted(read_back + bad) == expected


def rows_of(read: Read) -> list[int]:
    assert read.rows.rows is not None
    return read.rows.rows.tolist()


@given(st.lists(st.lists(plain, min_size=1, max_size=5), min_size=1, max_size=4))
def test_the_fast_way_reads_what_the_careful_way_reads(parts: list[list[Said]]) -> None:
    together = columns([columnar(FORMAT_COLUMNS, "a", part) for part in parts])
    for record in together.records:
        # A batch like most: no column says what is the same for all.
        assert b"answer" not in record.value
    fast = READER.columnar._read_all(0, together)
    assert fast is not None
    [slow], _ = READER.columnar.read_carefully(0, together)
    assert everything([fast]) == everything([slow])
    for name in ("rows", "offsets", "appended"):
        np.testing.assert_array_equal(getattr(fast.rows, name), getattr(slow.rows, name))
    for place in range(len(fast.rows.ids)):
        assert fast.records[place] == slow.records[place]


@pytest.mark.parametrize("form", FORMS)
@given(rows=st.lists(said, min_size=1, max_size=6))
def test_a_row_that_moves_reads_as_it_did(form: bytes, rows: list[Said]) -> None:
    reads, refused = READER.read([(1, columns([columnar(form, "c", rows)]))])
    moved = [read.records[place] for read in reads for place in range(len(read.rows.ids))]
    again, _ = READER.read([(1, columns(moved))] if moved else [])
    assert everything(again) == everything(reads)
    _, refused_again = READER.read([(1, columns([item.record for item in refused]))] if refused else [])
    assert [item.error.reason for item in refused_again] == [item.error.reason for item in refused]


@pytest.mark.parametrize("form", FORMS)
def test_a_forwarded_row_keeps_when_it_was_first_written(form: bytes) -> None:
    origin = Forwarded(topic="t", partition=3, offset=7, row=2, appended=400)
    header = (
        HEADER_FORWARDED,
        json.dumps({f: getattr(origin, f) for f in origin.__struct_fields__}).encode(),
    )
    rows = [Said("r", 0.5, Answer.OUTPUT, NO_TIME, None, None), Said("s", 0.5, Answer.OUTPUT, 9, None, None)]
    record = columnar(form, "a", rows)
    [read], _ = READER.read([(0, columns([record._replace(headers=[*record.headers, header])]))])
    assert (read.rows.at.tolist(), read.rows.forwarded) == ([400, 9], {0, 1})


@pytest.mark.parametrize("header", [b"", b"{}", b"\xff", b"[" * 5000, b'{"topic":"\xff"}'])
def test_a_header_that_says_nonsense_of_where_a_record_was_is_refused(header: bytes) -> None:
    said = Said("r", 0.5, Answer.OUTPUT, 5, None, None)
    for record in (said.single("a"), columnar(FORMAT_COLUMNS, "a", [said])):
        record = record._replace(headers=[*record.headers, (HEADER_FORWARDED, header)])
        reads, [refused] = READER.read([(0, columns([record]))])
        assert (reads, refused.error.reason) == ([], "wrong-header")


def test_forms_mixed_in_one_topic_stay_in_log_order() -> None:
    def one(name: str) -> Said:
        return Said(name, 0.5, Answer.OUTPUT, 5, None, None)

    records = [
        one("p").single("b"),
        columnar(FORMAT_COLUMNS, "b", [one("q"), one("r")]),
        columnar(FORMAT_ARRAYS, "c", [one("s")]),
        one("t").single("c"),
        one("u").single("b"),
    ]
    reads, refused = READER.read([(1, columns(records))])
    assert not refused
    assert [(entry[0], entry[1]) for entry in everything(reads)] == [
        (1, b"p"), (1, b"q"), (1, b"r"), (2, b"s"), (2, b"t"), (1, b"u"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (Row(None, b"", [(HEADER_FORMAT, FORMAT_COLUMNS)]), "empty-value"),
        (Row(None, None, [(HEADER_FORMAT, FORMAT_ARRAYS)]), "empty-value"),
        (Row(None, b"SEC1 no", [(HEADER_FORMAT, FORMAT_COLUMNS)]), "damaged"),
        (Row(None, b"nonsense", [(HEADER_FORMAT, FORMAT_ARRAYS)]), "not-json"),
        (Row(None, b"{}", [(HEADER_FORMAT, b"columns-9")]), "wrong-header"),
        (
            columnar(FORMAT_COLUMNS, "z", [Said("r", 0.5, Answer.OUTPUT, 5, None, None)]),
            "unknown-member",
        ),
        (columnar(FORMAT_ARRAYS, "b", [Said("r", 0.5, Answer.OUTPUT, 5, None, None)]), "wrong-topic"),
    ],
)
def test_a_record_that_cannot_be_read_is_refused_whole(record: Row, reason: str) -> None:
    good = columnar(FORMAT_COLUMNS, "a", [Said("r", 0.5, Answer.OUTPUT, 5, None, None)])
    reads, [refused] = READER.read([(0, columns([good, record, good]))])
    assert (refused.error.reason, refused.offset, refused.record) == (reason, 11, record)
    assert [entry[1] for entry in everything(reads)] == [b"r", b"r"]


def test_numbers_that_are_none_spoil_their_row_only() -> None:
    hostile = [np.nan, np.inf, -np.inf, -0.5, 1e300]
    batch = PredictionBatch(
        "a", [b"%d" % i for i in range(6)], np.array([[0.5, 0.5]] + [[x, 0.5] for x in hostile], np.float64)
    )
    record = Row(None, pack(batch), [(HEADER_FORMAT, FORMAT_COLUMNS)])
    [read], refused = READER.read([(0, columns([record]))])
    assert read.rows.ids == [b"0"]
    assert [item.row for item in refused] == [1, 2, 3, 4, 5]
    assert {item.error.reason for item in refused} == {"not-a-probability", "not-a-distribution"}
