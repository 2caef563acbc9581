"""A wrong row of a columnar record is named and kept as it was; its neighbours are read."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from stream_ensemble.columnar import feedback_row, feedbacks, part_feedbacks, predictions
from stream_ensemble.columnar.feedbacks import FeedbackBatch, FeedbacksHead
from stream_ensemble.columnar.predictions import PredictionBatch
from stream_ensemble.columnar.writing import numbers, record, strings
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import PartLabel


def batch_of(**more: Any) -> PredictionBatch:
    fields = {"ids": [b"a", b"b", b"c"], "outputs": np.eye(3, 2)} | more
    return PredictionBatch("forest", **fields)


def reasons(batch: PredictionBatch | FeedbackBatch) -> dict[int, str]:
    return {row: error.reason for row, error in batch.wrong.items()}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ids": [b"a", b"", b"c"]}, "request_id: empty"),
        ({"ids": [b"a", b"b" * 257, b"c"]}, "request_id: longer than 256 characters"),
        ({"ids": [b"a", b"\xff", b"c"]}, "request_id: not valid UTF-8"),
        ({"at": np.array([5, -2, -1])}, "at: -2, expected milliseconds"),
        ({"at": np.array([5, 2**60, -1])}, "at: 1152921504606846976, expected milliseconds"),
        ({"answers": np.array([0, 3, 1], np.uint8)}, "answer: 3, expected 0 output"),
        ({"segments": {1: "\udcff"}}, "segment: not valid UTF-8"),
        ({"segments": {1: "x" * 129}}, "segment: longer than 128 characters"),
        ({"errors": {1: "\udcff"}, "answers": np.array([0, 2, 0], np.uint8)}, "error: not valid UTF-8"),
    ],
)
def test_a_wrong_row_of_columns_is_named_and_kept(wrong: dict[str, Any], said: str) -> None:
    batch = predictions.unpack(predictions.pack(batch_of(**wrong)))
    assert reasons(batch) == {1: "wrong-field"}
    assert said in batch.wrong[1].detail
    alone = predictions.unpack(predictions.row(batch, 1))
    assert len(alone) == 1
    assert alone.wrong[0].detail == batch.wrong[1].detail
    assert predictions.unpack(predictions.row(batch, 2)).wrong == {}
    assert predictions.unpack_all([predictions.pack(batch_of(**wrong))]) is None


def test_numbers_are_the_readers_to_judge() -> None:
    outputs = np.array([[np.nan, 0.5], [-1, 7], [np.inf, 0]])
    batch = predictions.unpack(predictions.pack(batch_of(outputs=outputs)))
    assert batch.wrong == {}
    np.testing.assert_array_equal(batch.outputs, outputs)


def test_without_an_output_column_only_rows_without_an_output_are_right() -> None:
    none = np.empty((3, 0))
    abstained = batch_of(outputs=none, answers=np.array([1, 0, 2], np.uint8))
    assert reasons(predictions.unpack(predictions.pack(abstained))) == {1: "missing-field"}
    assert reasons(predictions.unpack(predictions.pack(batch_of(outputs=none)))) == dict.fromkeys(
        range(3), "missing-field"
    )


ARRAYS: dict[str, Any] = {
    "version": 1,
    "kind": "predictions",
    "member": "forest",
    "request_ids": ["a", "b", "c"],
    "outputs": [[1.0, 0.0], [0.5, 0.5], None],
}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"request_ids": ["a", "", "c"]}, "wrong-field"),
        ({"request_ids": ["a", 7, "c"]}, "wrong-field"),
        ({"outputs": [[1.0, 0.0], "x", None]}, "wrong-field"),
        ({"outputs": [[1.0, 0.0], [None], None]}, "wrong-field"),
        ({"outputs": [[1.0, 0.0], [1.0], [0.0, 1.0]]}, "wrong-length"),
        ({"ats": [1, -1, 2]}, "wrong-field"),
        ({"answers": ["output", "maybe", "abstain"]}, "wrong-field"),
        ({"answers": ["output", "abstain", "abstain"]}, "not-one-answer"),
        ({"errors": [None, "no", None]}, "not-one-answer"),
        ({"segments": [None, "x" * 129, None]}, "wrong-field"),
    ],
)
def test_a_wrong_row_of_arrays_is_named_and_kept(wrong: dict[str, Any], reason: str) -> None:
    fields = ARRAYS | wrong
    batch = predictions.unpack_arrays(json.dumps(fields).encode())
    assert reasons(batch) == {1: reason}
    assert [batch.ids[0], batch.ids[2]] == [b"a", b"c"]
    assert batch.outputs[0].tolist() == [1.0, 0.0]
    alone = json.loads(predictions.row(batch, 1))
    cut = {name: [each[1]] for name, each in fields.items() if isinstance(each, list)}
    assert alone == fields | cut
    assert predictions.unpack_arrays(predictions.row(batch, 0)).wrong == {}


def test_a_null_is_an_abstention_unless_a_text_says_why() -> None:
    fields = ARRAYS | {"outputs": [[1.0, 0.0], None, None], "errors": [None, None, "no picture"]}
    batch = predictions.unpack_arrays(json.dumps(fields).encode())
    assert batch.answers is not None
    assert batch.answers.tolist() == [0, 1, 2]
    assert batch.errors == {2: "no picture"}
    assert batch.wrong == {}


def test_wrong_labels_are_named_and_kept() -> None:
    columns = FeedbackBatch([b"a", b"b", b"c"], [0, -1, 1], weights=np.array([1.0, 1.0, np.nan]))
    batch = feedbacks.unpack(feedbacks.pack(columns))
    assert reasons(batch) == {1: "wrong-field", 2: "wrong-field"}
    assert feedbacks.unpack(feedback_row.row(batch, 1)).labels == [-1]
    head = {"version": 1, "kind": "feedbacks"}
    fields = head | {"request_ids": ["a", "b"], "labels": [None, "cat"], "weights": [1, 2]}
    batch = feedbacks.unpack_arrays(json.dumps(fields).encode())
    assert reasons(batch) == {0: "wrong-field"}
    assert (batch.message(1).label, batch.message(1).weight) == ("cat", 2.0)
    assert json.loads(feedback_row.row(batch, 0))["labels"] == [None]


def test_wrong_labels_of_parts_are_named_and_kept() -> None:
    labels = [PartLabel(0, 1.0), PartLabel(-1, 1.0), PartLabel(2, float("nan")), PartLabel(1, -2.5)]
    batch = part_feedbacks.unpack(part_feedbacks.pack(FeedbackBatch([b"a", b"a", b"", b"b"], [*labels])))
    assert reasons(batch) == {1: "wrong-field", 2: "wrong-field"}
    assert part_feedbacks.unpack(feedback_row.row(batch, 1)).labels == [PartLabel(-1, 1.0)]
    head = {"version": 1, "kind": "feedbacks"}
    fields = head | {"request_ids": ["a", "a", "b"], "parts": ["x", None, 1], "labels": [True, 1, -2.5]}
    batch = part_feedbacks.unpack_arrays(json.dumps(fields).encode())
    assert reasons(batch) == {1: "wrong-field"}
    assert [batch.labels[0], batch.labels[2]] == [PartLabel("x", True), PartLabel(1, -2.5)]
    assert json.loads(feedback_row.row(batch, 1))["parts"] == [None]


@pytest.mark.parametrize("missing", ["part", "value"])
def test_columns_of_labels_without_what_they_are_about_are_refused(missing: str) -> None:
    columns = [
        numbers("part", np.zeros(1, np.int32)),
        numbers("value", np.zeros(1)),
        strings("request_id", [b"a"]),
    ]
    head = FeedbacksHead(version=1, kind="feedbacks", rows=1, columns=[])
    left = [column for column in columns if column.column.name != missing]
    with pytest.raises(RecordError, match=f"no column {missing}"):
        part_feedbacks.unpack(record(head, left))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty-value"),
        (b"{", "not-json"),
        (b'{"a":' + b"[" * 100_000, "not-json"),
        (b"[]", "wrong-field"),
        (json.dumps(ARRAYS | {"version": 2}).encode(), "wrong-version"),
        (json.dumps(ARRAYS | {"kind": "prediction"}).encode(), "wrong-kind"),
        (json.dumps(ARRAYS | {"member": None}).encode(), "wrong-field"),
        (json.dumps(ARRAYS | {"outputs": "x"}).encode(), "wrong-field"),
        (json.dumps(ARRAYS | {"request_ids": [], "outputs": []}).encode(), "wrong-field"),
        (json.dumps(ARRAYS | {"ats": [1, 2]}).encode(), "wrong-length"),
        (json.dumps(ARRAYS | {"ats": [1, "x"]}).encode(), "wrong-length"),
        (json.dumps({key: ARRAYS[key] for key in ARRAYS if key != "outputs"}).encode(), "missing-field"),
    ],
)
def test_arrays_that_cannot_be_read_at_all_are_refused(value: bytes, reason: str) -> None:
    with pytest.raises(RecordError) as refused:
        predictions.unpack_arrays(value)
    assert refused.value.reason == reason
    assert refused.value.detail
