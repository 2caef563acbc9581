"""What a member answers to many requests, as one batch of columns, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stream_ensemble.columnar.predictions import PredictionBatch
from stream_ensemble.core.join.records import NO_TIME, Answer
from stream_ensemble.core.tasks.domain import Domain
from stream_ensemble.messages import Name, Prediction
from stream_ensemble.sdk.errors import InvalidInputError
from stream_ensemble.sdk.lookup import checked, each, keys_of, times_of, trace_headers
from stream_ensemble.sdk.outputs import block_of
from stream_ensemble.sdk.prediction_messages import error_text


def output_batch(
    member: str,
    domain: Domain,
    request_ids: Sequence[str],
    outputs: Any,
    *,
    at: Any,
    segments: str | Sequence[str | None] | None,
    errors: Sequence[str | None] | None,
    traceparents: Sequence[str | None] | None,
) -> PredictionBatch:
    """``outputs`` as ``member``'s batch; see ``PredictionPublisher.publish_batch``.

    Raises:
        InvalidInputError: an argument is wrong; the message names the row.
    """
    n = len(request_ids)
    block = block_of(outputs, n, domain)
    texts: dict[int, str] = _given(errors, n, "errors", str)
    for row, problem in block.problems.items():
        if row not in texts:
            raise InvalidInputError(f"row {row} (request {request_ids[row]!r}): {problem}")
    batch = PredictionBatch(
        member,
        keys_of(request_ids),
        block.numbers,
        times_of(at, n),
        np.where(block.abstained, Answer.ABSTAIN, Answer.OUTPUT).astype(np.uint8),
        {row: error_text(text) for row, text in texts.items()},
        _given(segments, n, "segments", Name),
        _traces(traceparents, n),
    )
    return _with_answers(batch, list(texts))


def prediction_batch(
    member: str, classes: int, predictions: Sequence[Prediction], traceparents: Sequence[str | None] | None
) -> PredictionBatch:
    """Ready-made predictions of ``member``, of which those with an output have ``classes`` numbers."""
    n = len(predictions)
    outputs = np.zeros((n, classes))
    awake = [row for row, prediction in enumerate(predictions) if prediction.output is not None]
    if awake:
        outputs[awake] = [predictions[row].output for row in awake]
    failed = [row for row, prediction in enumerate(predictions) if prediction.error is not None]
    answers = np.full(n, Answer.ABSTAIN, np.uint8)
    answers[awake] = Answer.OUTPUT
    times = [NO_TIME if prediction.at is None else prediction.at for prediction in predictions]
    batch = PredictionBatch(
        member,
        keys_of([prediction.request_id for prediction in predictions]),
        outputs,
        np.array(times, np.int64),
        answers,
        {row: predictions[row].error or "" for row in failed},
        {row: each.segment for row, each in enumerate(predictions) if each.segment is not None},
        _traces(traceparents, n),
    )
    return _with_answers(batch, failed)


def _with_answers(batch: PredictionBatch, failed: list[int]) -> PredictionBatch:
    """``batch`` with errors in the rows of ``failed``, and zeros where there is no output; without a column
    of answers where every row is an output.
    """
    assert batch.answers is not None
    batch.answers[failed] = Answer.ERROR
    silent = batch.answers != Answer.OUTPUT
    if not silent.any():
        batch.answers = None
        return batch
    batch.outputs = np.where(silent[:, None], batch.outputs.dtype.type(0), batch.outputs)
    return batch


def _given(values: Any, count: int, name: str, wanted: Any) -> dict[int, Any]:
    if values is None:
        return {}
    found = checked(each(values, count, name), list[wanted | None], name)
    return {row: value for row, value in enumerate(found) if value is not None}


def _traces(traceparents: Sequence[str | None] | None, count: int) -> dict[int, bytes]:
    given: dict[int, str] = _given(traceparents, count, "traceparents", str)
    return {row: value for row, trace in given.items() for _, value in trace_headers(trace)}
