"""Columnar records from a hostile or broken writer: refused, never an other error, never much memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream_ensemble.columnar import feedbacks, predictions
from stream_ensemble.columnar.feedbacks import FeedbackBatch
from stream_ensemble.columnar.layout import SIZES
from stream_ensemble.columnar.predictions import PredictionBatch
from stream_ensemble.errors import RecordError

PREDICTIONS = predictions.pack(
    PredictionBatch(
        "forest",
        [b"a", b"bc", b"def"],
        np.eye(3),
        np.array([1, 2, 3]),
        np.array([0, 1, 2], np.uint8),
        {2: "no picture"},
        {0: "eu", 2: "us"},
        {1: b"00-1-2-01"},
    )
)
USUAL = predictions.pack(
    PredictionBatch("forest", [b"a", b"b"], np.eye(2, dtype=np.float32), np.array([1, 2]))
)
FEEDBACKS = feedbacks.pack(FeedbackBatch([b"a", b"b"], [0, 1], None, np.array([0, 1]), np.array([1.0, 0.5])))
UNPACK: dict[str, Callable[[bytes], Any]] = {
    "predictions": predictions.unpack,
    "feedbacks": feedbacks.unpack,
    "prediction arrays": predictions.unpack_arrays,
    "feedback arrays": feedbacks.unpack_arrays,
    "together": lambda value: predictions.unpack_all([USUAL, value]),
}
everywhere = pytest.mark.parametrize("unpack", UNPACK.values(), ids=UNPACK)


def read_or_refused(unpack: Callable[[bytes], Any], value: bytes) -> None:
    """Reads ``value``; only a ``RecordError`` may come of it."""
    try:
        unpack(value)
    except RecordError as refused:
        assert refused.reason and refused.detail


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    value = bytearray(draw(st.sampled_from([PREDICTIONS, USUAL, FEEDBACKS])))
    for _ in range(draw(st.integers(0, 3))):
        value[draw(st.integers(0, len(value) - 1))] = draw(st.integers(0, 255))
    cut = draw(st.integers(0, len(value)) | st.just(len(value)))
    return bytes(value[:cut]) + draw(st.binary(max_size=9))


@everywhere
@given(value=damaged() | st.binary(max_size=60))
@example(value=b"SEC1\xff\xff\xff\xff")
@example(value=b"SEC1\0\0\0\0")
def test_damaged_bytes_are_read_or_refused(unpack: Callable[[bytes], Any], value: bytes) -> None:
    read_or_refused(unpack, value)


sizes = (
    st.integers(-1, 9)
    | st.sampled_from([2**16, 2**16 + 1, 2**31 - 1, 2**31, 2**63, 2**64, 10**30])
    | st.just("x")
)
columns = st.tuples(
    st.sampled_from(["request_id", "output", "at", "label", "segment", "answer", "error", "weight", "new"]),
    st.sampled_from([*SIZES, "text", "<f2"]),
    sizes,
)


def with_head(head: dict[str, Any], body: bytes) -> bytes:
    said = json.dumps(head).encode()
    said += b" " * (-len(said) % 8)
    return b"SEC1" + len(said).to_bytes(4, "little") + said + body


@everywhere
@given(
    kind=st.sampled_from(["predictions", "feedbacks"]),
    rows=sizes,
    columns=st.lists(columns, max_size=5),
    body=st.binary(max_size=80),
)
@example(kind="predictions", rows=65_536, columns=[("request_id", "bytes", 2**31 - 1)], body=b"")
@example(kind="predictions", rows=65_536, columns=[("request_id", "text", 0)], body=b"")
@example(kind="predictions", rows=2, columns=[("request_id", "text", 0)], body=b"\2\0\0\0\1\0\0\0a")
@example(kind="predictions", rows=1, columns=[("request_id", "text", 0)], body=b"\xff\xff\xff\xff")
def test_heads_that_claim_anything_are_read_or_refused(
    unpack: Callable[[bytes], Any], kind: str, rows: Any, columns: list[Any], body: bytes
) -> None:
    head = {"version": 1, "kind": kind, "member": "forest", "rows": rows, "columns": columns}
    read_or_refused(unpack, with_head(head, body))


@given(
    st.dictionaries(
        st.sampled_from(["version", "kind", "member", "request_ids", "outputs", "answers", "labels", "ats"]),
        st.recursive(
            st.none() | st.integers(-1, 2) | st.floats() | st.text(max_size=2) | st.just("predictions"),
            lambda inner: st.lists(inner, max_size=3),
        ),
    )
)
def test_arrays_of_anything_are_read_or_refused(fields: dict[str, Any]) -> None:
    for kind, unpack in (("predictions", predictions.unpack_arrays), ("feedbacks", feedbacks.unpack_arrays)):
        usual = {"version": 1, "kind": kind, "member": "forest", "request_ids": ["a"], "outputs": [[1]]}
        read_or_refused(unpack, json.dumps(usual | {"labels": [1]} | fields).encode())


@pytest.mark.parametrize(
    "columns",
    [
        [("request_id", "bytes", 2**31 - 1)],
        [("request_id", "text", 0)],
        [("request_id", "bytes", 1), ("output", "<f8", 2**31 - 1)],
        [("request_id", "bytes", 1), ("later", "<f8", 2**31 - 1)],
    ],
)
def test_a_head_that_claims_gigabytes_costs_no_memory(columns: list[Any]) -> None:
    head = {"version": 1, "kind": "predictions", "member": "m", "rows": 65_536, "columns": columns}
    value = with_head(head, bytes(1000))
    tracemalloc.start()
    try:
        with pytest.raises(RecordError):
            predictions.unpack(value)
        assert predictions.unpack_all([value]) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize("length", [3000, 6000])
@pytest.mark.parametrize("read", [feedbacks.unpack, lambda value: predictions.unpack_all([value])])
def test_heads_without_end_are_not_kept(read: Callable[[bytes], Any], length: int) -> None:
    columns = [["request_id", "bytes", 1], ["output", "<f8", 1], ["label", "<i4", 1]]
    tracemalloc.start()
    try:
        for i in range(3000):
            head = {"version": 1, "member": "m", "rows": 1, "columns": columns, "n": i, "x": "x" * length}
            kind = "feedbacks" if read is feedbacks.unpack else "predictions"
            read(with_head(head | {"kind": kind}, b"a" + bytes(7 + 8 + 4)))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Two caches of 512, of heads and of what is made of them.
    assert kept < 512 * (5500 if length < 4000 else 100)


@pytest.mark.parametrize("fields", [{"later": "x" * 500_000}, {"member": "x" * 500_000}])
def test_a_long_field_is_not_repeated_for_every_wrong_row(fields: dict[str, str]) -> None:
    wrong = {"member": "m", "request_ids": [0] * 1000, "outputs": [None] * 1000}
    value = json.dumps({"version": 1, "kind": "predictions"} | wrong | fields).encode()
    tracemalloc.start()
    try:
        read_or_refused(predictions.unpack_arrays, value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def nested() -> bytes:
    """A head nested beyond any reader."""
    said = b'{"later":' + b"[" * 100_007
    return b"SEC1" + len(said).to_bytes(4, "little") + said


TWICE = {"version": 1, "kind": "predictions", "member": "m", "rows": 1, "columns": [["at", "<i8", 1]] * 2}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (nested(), "not-json: nested too deeply"),
        (FEEDBACKS, "wrong-kind"),
        (USUAL.replace(b'"version":1', b'"version":2'), "wrong-version"),
        (USUAL.replace(b'"output","<f4"', b'"output","<i4"'), "output is <i4"),
        (USUAL + b"\0", "damaged: .* bytes, its head says"),
        (USUAL[:-1], "damaged: .* bytes, its head says"),
        (b"SEC2" + USUAL[4:], "damaged: the value starts with b'SEC2'"),
        (USUAL[:20], "damaged: 20 bytes, its head alone ends at"),
        (b"SEC1\4\0\0\0true", "damaged: its head ends at 12"),
        (b"", "empty-value"),
        (with_head(TWICE, bytes(16)), "a name stands twice"),
        (
            with_head(TWICE | {"columns": [["request_id", "bytes", 8], ["at", "<i8", 2]]}, bytes(24)),
            "at: 2 numbers",
        ),
        (with_head(TWICE | {"columns": [["at", "<i8", 1]]}, bytes(8)), "missing-field: no column request_id"),
        (with_head(TWICE | {"rows": 0}, b""), "wrong-field: .*rows"),
        (with_head(TWICE | {"rows": 65_537}, b""), "wrong-field: .*rows"),
        (with_head(TWICE | {"columns": [["x", "u1", 0]]}, b""), "width 0 of u1"),
        (with_head(TWICE | {"columns": [["x", "text", 1]]}, b""), "width 1 of text"),
    ],
)
def test_what_is_wrong_with_a_record_is_said(value: bytes, said: str) -> None:
    with pytest.raises(RecordError, match=said):
        predictions.unpack(value)
