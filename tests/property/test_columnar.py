"""Columnar records: what is packed is read back, alone, together and as single rows, in both forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.columnar import feedback_row, feedbacks, part_feedbacks, predictions
from stream_ensemble.columnar.feedbacks import FeedbackBatch
from stream_ensemble.columnar.predictions import PredictionBatch
from stream_ensemble.core.join.records import NO_TIME, Answer
from stream_ensemble.messages import FORMAT_ARRAYS, FORMAT_COLUMNS, PartLabel

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
times = st.just(NO_TIME) | st.integers(0, 253_402_300_799_999)
shares = st.floats(0, 1, width=32)
ascii_ids = st.text(st.characters(codec="ascii"), min_size=5, max_size=5).map(str.encode)
traces = st.from_regex(r"00-[0-9a-f]{8}-01", fullmatch=True).map(str.encode)


def sparse(values: st.SearchStrategy[Any], n: int) -> st.SearchStrategy[dict[int, Any]]:
    return st.dictionaries(st.integers(0, n - 1), values, max_size=n)


def column(values: st.SearchStrategy[Any], n: int, dtype: type) -> st.SearchStrategy[Any]:
    return st.none() | st.lists(values, min_size=n, max_size=n).map(lambda column: np.array(column, dtype))


@st.composite
def prediction_batches(draw: st.DrawFn) -> PredictionBatch:
    n, c = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    ids = draw(st.lists(texts.map(str.encode) | ascii_ids, min_size=n, max_size=n))
    outputs = np.array(draw(st.lists(shares, min_size=n * c, max_size=n * c))).reshape(n, c)
    answers = draw(column(st.sampled_from(list(Answer)), n, np.uint8))
    failed = set() if answers is None else set(np.flatnonzero(answers == Answer.ERROR).tolist())
    return PredictionBatch(
        draw(texts),
        ids,
        outputs.astype(draw(st.sampled_from([np.float32, np.float64]))),
        draw(column(times, n, np.int64)),
        answers,
        {row: draw(texts) for row in failed},
        draw(sparse(texts, n)),
        draw(sparse(traces, n)),
    )


@st.composite
def feedback_batches(draw: st.DrawFn) -> FeedbackBatch:
    n = draw(st.integers(1, 6))
    return FeedbackBatch(
        draw(st.lists(texts.map(str.encode), min_size=n, max_size=n)),
        draw(st.lists(st.integers(0, 2**31 - 1), min_size=n, max_size=n)),
        draw(column(times, n, np.int64)),
        draw(column(st.integers(0, 2**53), n, np.int64)),
        draw(column(st.floats(0, 1e6, exclude_min=True), n, np.float64)),
    )


def plain(batch: PredictionBatch) -> dict[str, Any]:
    """What a batch says, with the outputs as float64 and absences alike whatever their form."""
    n = len(batch)
    answers = np.zeros(n, np.uint8) if batch.answers is None else batch.answers
    rows = zip(batch.outputs.tolist(), answers.tolist(), strict=True)
    return {
        "member": batch.member,
        "ids": batch.ids,
        "answers": answers.tolist(),
        "outputs": [output if answer == Answer.OUTPUT else None for output, answer in rows],
        "at": [NO_TIME] * n if batch.at is None else batch.at.tolist(),
        "texts": (batch.errors, batch.segments, batch.traces),
        "wrong": batch.wrong,
    }


@given(prediction_batches())
def test_packed_predictions_are_read_back(batch: PredictionBatch) -> None:
    back = predictions.unpack(predictions.pack(batch))
    assert plain(back) == plain(batch)
    assert back.answers is None or back.answers.any()
    assert back.outputs.dtype == batch.outputs.dtype
    assert back.form == FORMAT_COLUMNS


@given(prediction_batches())
def test_predictions_as_arrays_are_read_back(batch: PredictionBatch) -> None:
    back = predictions.unpack_arrays(predictions.pack_arrays(batch))
    assert plain(back) == plain(batch)
    assert back.form == FORMAT_ARRAYS


FORMS = [
    pytest.param(predictions.pack, predictions.unpack, id="columns"),
    pytest.param(predictions.pack_arrays, predictions.unpack_arrays, id="arrays"),
]


@pytest.mark.parametrize(("pack", "unpack"), FORMS)
@given(batch=prediction_batches(), data=st.data())
def test_a_row_alone_says_what_it_said_among_others(
    pack: Callable[[PredictionBatch], bytes],
    unpack: Callable[[bytes], PredictionBatch],
    batch: PredictionBatch,
    data: st.DataObject,
) -> None:
    r = data.draw(st.integers(0, len(batch) - 1))
    alone = unpack(predictions.row(unpack(pack(batch)), r))
    assert plain(alone) == plain(batch.take([r]))


@st.composite
def usual(draw: st.DrawFn, classes: int, dtype: type, timed: bool) -> PredictionBatch:
    n = draw(st.integers(1, 5))
    return PredictionBatch(
        "forest",
        draw(st.lists(ascii_ids, min_size=n, max_size=n)),
        np.array(draw(st.lists(shares, min_size=n * classes, max_size=n * classes)), dtype).reshape(
            n, classes
        ),
        np.array(draw(st.lists(st.integers(0, 2**40), min_size=n, max_size=n))) if timed else None,
    )


@given(st.data(), st.integers(1, 3), st.sampled_from([np.float32, np.float64]), st.booleans())
def test_many_usual_values_together_are_what_they_are_one_by_one(
    data: st.DataObject, classes: int, dtype: type, timed: bool
) -> None:
    batches = data.draw(st.lists(usual(classes, dtype, timed), min_size=1, max_size=5))
    values = list(map(predictions.pack, batches))
    together = predictions.unpack_all(values)
    assert together is not None
    single = list(map(predictions.unpack, values))
    assert together.member == "forest"
    assert together.ids == [request_id for batch in single for request_id in batch.ids]
    assert together.outputs.tolist() == [row for batch in single for row in batch.outputs.tolist()]
    assert together.outputs.dtype == dtype
    assert together.rows.tolist() == list(map(len, single))
    if timed:
        assert together.at is not None
        assert together.at.tolist() == [at for batch in single for at in batch.at.tolist()]  # type: ignore[union-attr]
    else:
        assert together.at is None


@given(st.lists(prediction_batches(), max_size=3), st.data())
def test_what_is_read_together_never_differs_from_one_by_one(
    batches: list[PredictionBatch], data: st.DataObject
) -> None:
    values = list(map(predictions.pack, batches)) + data.draw(st.lists(st.binary(max_size=30), max_size=1))
    together = predictions.unpack_all(data.draw(st.permutations(values)))
    if together is None:
        return
    single = [predictions.unpack(value) for value in values]
    assert not any(batch.wrong or batch.segments or batch.errors or batch.traces for batch in single)
    assert {batch.member for batch in single} == {together.member}
    assert sorted(together.ids) == sorted(request_id for batch in single for request_id in batch.ids)


@given(feedback_batches())
def test_packed_feedback_is_read_back(batch: FeedbackBatch) -> None:
    back = feedbacks.unpack(feedbacks.pack(batch))
    assert [back.message(r) for r in range(len(back))] == [batch.message(r) for r in range(len(batch))]
    assert back.wrong == {}


@given(feedback_batches(), st.data())
def test_feedback_as_arrays_is_read_back(batch: FeedbackBatch, data: st.DataObject) -> None:
    batch.labels = [data.draw(st.just(label) | texts) for label in batch.labels]
    back = feedbacks.unpack_arrays(feedbacks.pack_arrays(batch))
    assert [back.message(r) for r in range(len(back))] == [batch.message(r) for r in range(len(batch))]
    r = data.draw(st.integers(0, len(batch) - 1))
    assert feedbacks.unpack_arrays(feedback_row.row(back, r)).message(0) == batch.message(r)


@st.composite
def part_feedback_batches(draw: st.DrawFn) -> FeedbackBatch:
    batch = draw(feedback_batches())
    values = st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
    batch.labels = [PartLabel(label, draw(values)) for label in batch.labels if isinstance(label, int)]
    return batch


@given(part_feedback_batches())
def test_packed_feedback_about_parts_is_read_back(batch: FeedbackBatch) -> None:
    back = part_feedbacks.unpack(part_feedbacks.pack(batch))
    # Columns have numbers only: yes is 1.
    assert [back.message(r) for r in range(len(back))] == [batch.message(r) for r in range(len(batch))]
    assert back.wrong == {}
    for r in range(len(batch)):
        assert part_feedbacks.unpack(feedback_row.row(back, r)).message(0) == batch.message(r)


@given(part_feedback_batches(), st.data())
def test_feedback_about_parts_as_arrays_is_read_back(batch: FeedbackBatch, data: st.DataObject) -> None:
    labels = [label for label in batch.labels if isinstance(label, PartLabel)]
    batch.labels = [label._replace(part=data.draw(st.just(label.part) | texts)) for label in labels]
    back = part_feedbacks.unpack_arrays(part_feedbacks.pack_arrays(batch))
    messages = [back.message(r) for r in range(len(back))]
    assert messages == [batch.message(r) for r in range(len(batch))]
    assert [type(message.label) for message in messages] == [type(label.value) for label in labels]
    r = data.draw(st.integers(0, len(batch) - 1))
    assert part_feedbacks.unpack_arrays(feedback_row.row(back, r)).message(0) == batch.message(r)


@given(feedback_batches(), st.data())
def test_a_label_alone_says_what_it_said_among_others(batch: FeedbackBatch, data: st.DataObject) -> None:
    r = data.draw(st.integers(0, len(batch) - 1))
    back = feedbacks.unpack(feedbacks.pack(batch))
    assert feedbacks.unpack(feedback_row.row(back, r)).message(0) == batch.message(r)
