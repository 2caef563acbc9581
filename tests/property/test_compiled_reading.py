"""The compiled kernel reads what the plain way reads, to the bit; what it leaves is read in its place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec
import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition
from hypothesis import example, given
from hypothesis import strategies as st

from stream_ensemble import compiled
from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.core.tasks.domain import Domain
from stream_ensemble.core.tasks.forecast import Horizons
from stream_ensemble.core.tasks.multilabel import ManyLabels
from stream_ensemble.kafka.chunks import Chunk
from stream_ensemble.kafka.decode_compiled import _ODD, Taken
from stream_ensemble.kafka.decode_predictions import PredictionReader
from stream_ensemble.kafka.raw_batches import opened
from stream_ensemble.messages import FORMAT_COLUMNS, HEADER_FORMAT, HEADER_FORWARDED, HEADER_TRACE
from tests import raw_records

MEMBERS = ["a", "b", "ü", "d"]
READER = PredictionReader(MEMBERS, [0, 1, 1, 1], Classes(("x", "y"), 1e-6))
BASE = 1_700_000_000_000
MOVED = json.dumps({"topic": "t", "partition": 0, "offset": 3, "row": 0, "appended": BASE - 9}).encode()
CREATE_TIME, APPEND_TIME = 0, 1


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def batch(records: Sequence[Record], first: int, codec: int = 0, append_time: bool = True) -> bytes:
    """A batch as a broker keeps it; where its records say their time themselves, it is one more ms each."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 27)
    for place, (key, value, headers) in enumerate(records):
        assert builder.append(place, BASE + place, key, value, headers) is not None
    data = bytearray(builder.build())
    data[0:8] = first.to_bytes(8, "big")
    if append_time:
        data[22] |= 8
    return bytes(data)


def chunk(batches: Sequence[bytes], first: int, topic: str = "t") -> Chunk:
    return raw_records.chunk(batches, first, topic, first + 10_000)


def by_kernel(parts: list[tuple[int, Chunk]]) -> Taken:
    assert READER.compiled is not None
    taken = READER.compiled.read(parts)
    assert taken is not None, "it was left to the plain way"
    return taken


def facts(taken: Taken) -> Any:
    """What was read, row by row, and what was refused, in log order."""
    rows = []
    for read in taken.reads:
        row = read.rows
        for i, request_id in enumerate(row.ids):
            at = int(row.at[i])
            answer = 0 if row.answers is None else int(row.answers[i])
            rows.append((
                row.member_of(i), request_id, row.outputs[i].tobytes(), answer,
                int(row.appended[i]) if at < 0 else at, int(row.appended[i]), int(row.offsets[i]),
                row.segments.get(i), i in row.forwarded, row.traces.get(i), tuple(read.records[i].value),
            ))  # fmt: skip
    refused = [(r.topic, r.offset, r.appended, str(r.error), r.record.value) for r in taken.refused]
    return rows, refused, taken.newest


def carefully(parts: list[tuple[int, Chunk]]) -> Taken:
    reads, refused, newest = [], [], []
    for topic, part in parts:
        columns = part.columns()
        more, bad = READER.singles.read_carefully(topic, columns) if columns.records else ([], [])
        reads += more
        refused += bad
        newest.append(int(columns.appended.max()) if columns.records else -1)
    return Taken(reads, refused, newest)


spaces = st.sampled_from(["", " ", "\n ", "\t\r"])
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
shares = st.floats(0, 1) | st.sampled_from([0, 1, 0.5, 1e-7])
odd_values = (
    st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers(), max_size=3)
)


@st.composite
def messages(draw: st.DrawFn, member: str | None = None) -> Record:
    """A prediction as any client may write it, now and then one that cannot be used."""
    p = draw(shares)
    fields: dict[str, Any] = {
        "version": 1, "kind": "prediction", "request_id": draw(names), "output": [p, 1 - p],
        "member": member or draw(st.sampled_from(MEMBERS)),
    }  # fmt: skip
    extra = {
        "at": st.none() | st.integers(0, 2 * BASE), "segment": st.none() | names, "abstain": st.booleans(),
        "error": st.none() | names, "other": odd_values, "output": st.lists(shares, max_size=3),
        "version": st.sampled_from([1, 1.0, 2]),
    }  # fmt: skip
    for name in draw(st.sets(st.sampled_from(sorted(extra)), max_size=2)):
        fields[name] = draw(extra[name])
    if draw(st.integers(0, 9)) == 0:
        del fields[draw(st.sampled_from(sorted(fields)))]
    order = draw(st.permutations(sorted(fields)))
    s = draw(spaces)
    escaped = draw(st.booleans())
    text = ("," + s).join(
        f"{s}{json.dumps(n)}{s}:{s}{json.dumps(fields[n], ensure_ascii=escaped)}" for n in order
    )
    value = f"{s}{{{text}{s}}}{s}".encode()
    key = draw(st.sampled_from([str(fields.get("request_id", "")).encode()] * 8 + [None, b"other"]))
    headers = draw(
        st.sampled_from([[], [], [], [(HEADER_TRACE, b"00-1")], [("x", b"")], [(HEADER_FORWARDED, MOVED)]])
    )
    return Record(key, draw(st.sampled_from([value] * 20 + [None, b"", b"{", value[:-1]])), headers)


@given(
    st.lists(messages("a"), max_size=12),
    st.lists(messages(), max_size=12),
    st.integers(0, 4),
    st.booleans(),
    st.integers(0, 3),
)
def test_the_kernel_and_what_it_leaves_are_what_the_careful_way_reads(
    first: list[Record], second: list[Record], codec: int, append_time: bool, skipped: int
) -> None:
    a = chunk([batch(first, 10, codec, append_time)] if first else [], 10 + skipped)
    b = chunk([batch(part, 50 + i) for i, part in enumerate((second[:5], second[5:])) if part], 0)
    assert facts(in_order(by_kernel([(0, a), (1, b)]))) == facts(carefully([(0, a), (1, b)]))


def in_order(taken: Taken) -> Taken:
    """Refused ones topic by topic, as the careful way names them."""
    return Taken(taken.reads, sorted(taken.refused, key=lambda one: one.topic), taken.newest)


def plain_records(n: int, **more: Any) -> list[Record]:
    fields = {"version": 1, "kind": "prediction", "member": "a", "output": [0.25, 0.75], **more}
    return [Record(b"r%d" % i, json.dumps(fields | {"request_id": f"r{i}"}).encode(), []) for i in range(n)]


@pytest.mark.parametrize("domain", [ManyLabels(("p", "q")), Horizons(("p", "q"))])
@given(
    outputs=st.lists(
        st.lists(st.floats() | st.sampled_from([0, 1, -0.0, 1e100, -1e100, 2e100, True, "1"]), max_size=3),
        min_size=1,
        max_size=12,
    )
)
def test_outputs_of_any_kind_of_task_are_judged_alike_by_every_reader(
    domain: Domain, outputs: list[list[Any]]
) -> None:
    reader = PredictionReader(MEMBERS, [0, 1, 1, 1], domain)
    assert reader.compiled is not None
    fields = {"version": 1, "kind": "prediction", "member": "a"}
    texts = [json.dumps(fields | {"request_id": f"r{i}", "output": each}) for i, each in enumerate(outputs)]
    records = [Record(b"r%d" % i, text.encode(), []) for i, text in enumerate(texts)]
    part = (0, chunk([batch(records, 0)], 0))
    reads, refused = reader.singles.read_carefully(0, part[1].columns())
    expected = facts(Taken(reads, refused, [BASE]))[:2]
    found = reader.compiled.read([part])
    assert found is None or facts(in_order(found))[:2] == expected
    assert facts(Taken(*reader.read([(0, part[1].columns())]), [BASE]))[:2] == expected
    few = reader.few.read([part])
    assert few is None or (not refused and [one.output for one in few] == reads[0].rows.outputs.tolist())


@pytest.mark.parametrize(
    "more", [{}, {"at": BASE}, {"segment": "eü"}, {"model": "v7", "gpu": True, "s": 1.5}]
)
def test_plain_records_need_nobody_else(more: dict[str, Any]) -> None:
    records = [
        one._replace(headers=[(HEADER_TRACE, b"00-1"), ("x", b"y")]) for one in plain_records(50, **more)
    ]
    if "segment" in more:
        records = [
            one._replace(value=str(one.value, "unicode-escape").encode()) for one in records if one.value
        ]
    with patch.object(READER.singles, "one", side_effect=AssertionError("looked at by itself")):
        [read] = by_kernel([(0, chunk([batch(records, 0)], 0))]).reads
    assert read.rows.member == 0 and len(read.rows.ids) == 50


def test_a_bad_row_costs_none_of_its_neighbours_their_speed() -> None:
    records = plain_records(200)
    records[7] = Record(b"r7", b"nonsense", [])
    part = chunk([batch(records, 0)], 0)
    with patch.object(READER.singles, "one", wraps=READER.singles.one) as looked:
        taken = by_kernel([(0, part)])
    assert looked.call_count == 1
    assert [(one.offset, one.error.reason) for one in taken.refused] == [(7, "not-json")]
    assert [read.rows.offsets.tolist() for read in taken.reads] == [[*range(7), *range(8, 200)]]
    assert taken.reads[0].records[7].value == records[8].value


def test_where_most_are_odd_or_columnar_all_are_read_the_plain_way() -> None:
    assert READER.compiled is not None
    odd = [Record(None, b"nonsense", [])] * (_ODD + 1)
    assert READER.compiled.read([(0, chunk([batch(odd, 0)], 0))]) is None
    columnar = [*plain_records(3), Record(None, b"", [(HEADER_FORMAT, FORMAT_COLUMNS)])]
    assert READER.compiled.read([(0, chunk([batch(columnar, 0)], 0))]) is None
    unknown = Chunk(TopicPartition("t", 0), 0, 1, [])
    assert READER.compiled.read([(0, unknown)]) is None
    assert len(READER.take([(0, chunk([batch(odd, 0)], 0))]).refused) == len(odd)


def test_a_batch_that_claims_more_records_than_it_has_bytes_is_left_to_others() -> None:
    raw = bytearray(batch(plain_records(3), 0))
    raw[57:61] = (2**31 - 1).to_bytes(4, "big")
    part = chunk([bytes(raw)], 0)
    assert READER.compiled is not None
    assert READER.compiled.read([(0, part)]) is None
    [refused] = READER.take([(0, part)]).refused
    assert refused.error.reason == "unreadable-batch"
    assert "2147483647 records in" in refused.error.detail


# --- numbers ------------------------------------------------------------------------------------------------


def numbers_by_kernel(texts: Sequence[str]) -> list[float | None]:
    """What the kernel reads of each number; None where it leaves it to others."""
    n = len(texts)
    head = '{"version":1,"kind":"prediction","request_id":"r","member":"a","output":['
    records = [Record(b"r", f"{head}{text}]}}".encode(), []) for text in texts]
    kernel = compiled.reading.SingleKernel(["a"], np.zeros(1, np.int64), 1, ("f", "t", "m"))
    raw = opened(memoryview(batch(records, 0)))
    assert raw is not None
    integers = np.empty((4, n), np.int64)
    outputs, odd = np.zeros((n, 1)), np.empty(n, np.uint8)
    assert kernel.read(raw.records, n, 0, 0, 1, 0, 0, *integers, outputs, odd, [], {}, {}) == n
    return [None if left else x for x, left in zip(outputs[:, 0].tolist(), odd.tolist(), strict=True)]


digits = st.text("0123456789", min_size=1, max_size=24)
written = st.builds(
    lambda sign, whole, part, exponent: f"{sign}{int(whole)}{part}{exponent}",
    st.sampled_from(["", "-"]),
    digits,
    st.just("") | digits.map(".{}".format),
    st.just("") | st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), digits),
) | st.floats(allow_nan=False, allow_infinity=False).map(repr)
wrong = st.sampled_from(
    [
        "01",
        "1.",
        ".5",
        "-",
        "+1",
        "1e",
        "1e+",
        "NaN",
        "Infinity",
        "-Infinity",
        "0x1",
        "1_0",
        "1e999",
        '"1"',
        "",
    ]
)


@given(st.lists(written | wrong, min_size=1, max_size=30))
@example(
    ["18446744073709551616", "0.18446744073709551616", "184467440737095516160e-21", "-36893488147419103232"]
)
def test_numbers_are_the_nearest_doubles(texts: list[str]) -> None:
    for text, found in zip(texts, numbers_by_kernel(texts), strict=True):
        try:
            right = msgspec.json.decode(f"[{text}]", type=list[float])
        except (msgspec.DecodeError, msgspec.ValidationError):
            right = []
        if len(right) != 1:
            assert found is None, text
        elif found is not None:
            assert np.float64(found).tobytes() == np.float64(right[0]).tobytes(), text


def test_a_million_numbers_of_every_length_are_the_nearest_doubles() -> None:
    rng = np.random.default_rng(5)
    texts = []
    for count in range(1, 22):
        for places in (count, count + 1, count + 5):
            whole = rng.integers(0, 10, (4_000, count))
            texts += ["0." + "0" * (places - count) + "".join(map(str, row)) for row in whole.tolist()]
    found = numbers_by_kernel(texts)
    assert None not in found
    assert found == [float(text) for text in texts]


# --- bytes that are no batch --------------------------------------------------------------------


@given(st.lists(messages("a"), min_size=1, max_size=6), st.data())
def test_a_damaged_batch_is_left_to_others_and_harms_nobody(
    records: list[Record], data: st.DataObject
) -> None:
    raw = bytearray(batch(records, 0))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(61, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(61, len(raw)))
    part = Chunk(TopicPartition("t", 0), 0, 1, [], raws=[memoryview(bytes(raw))[:cut]])
    assert READER.compiled is not None
    with patch.object(Chunk, "runs", side_effect=LookupError):
        try:
            taken = READER.compiled.read([(0, part)])
        except LookupError:
            return
    assert taken is None or len(taken.newest) == 1
