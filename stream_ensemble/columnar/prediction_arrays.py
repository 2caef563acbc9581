"""Columnar predictions as JSON arrays, for writers that have no bytes at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble.columnar.array_rows import SingleRows, read_arrays, same_length
from stream_ensemble.columnar.prediction_batch import PredictionBatch
from stream_ensemble.columnar.rows import Wrong
from stream_ensemble.core.join.records import NO_TIME, Answer
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import FORMAT_ARRAYS, PredictionArrays

_decode: Final = msgspec.json.Decoder(PredictionArrays).decode
_ARRAYS: Final = ("request_ids", "outputs", "ats", "answers", "errors", "segments", "traceparents")
_NAMES: Final = {answer.name.lower(): answer for answer in Answer}


def pack_arrays(batch: PredictionBatch) -> bytes:
    """``batch`` as the JSON value of one record. Its texts are valid Unicode and its numbers finite."""
    n = len(batch)
    outputs: list[list[float] | None] = batch.outputs.tolist()
    answers = None
    if batch.answers is not None:
        kinds = [Answer(kind) for kind in batch.answers.tolist()]
        outputs = [o if kind == Answer.OUTPUT else None for o, kind in zip(outputs, kinds, strict=True)]
        answers = [kind.name.lower() for kind in kinds]
    arrays = PredictionArrays(
        version=1,
        kind="predictions",
        member=batch.member,
        request_ids=[request_id.decode() for request_id in batch.ids],
        outputs=outputs,
        ats=None if batch.at is None else [None if at == NO_TIME else at for at in batch.at.tolist()],
        answers=answers,  # type: ignore[arg-type]
        errors=_dense(batch.errors, n),
        segments=_dense(batch.segments, n),
        traceparents=_dense(
            {row: trace.decode("ascii", "replace") for row, trace in batch.traces.items()}, n
        ),
    )
    return msgspec.json.encode(arrays)


def unpack_arrays(value: bytes) -> PredictionBatch:
    """The rows of one JSON value.

    Raises:
        RecordError: the record as a whole cannot be read; rows that cannot be used stand in ``wrong``.
    """
    arrays, wrong = read_arrays(value, _decode, _ARRAYS, _blank)
    return _batch(arrays, value, wrong)


def _blank(like: PredictionArrays) -> PredictionArrays:
    return PredictionArrays(
        version=1,
        kind="predictions",
        member=like.member,
        request_ids=[""],
        outputs=[None],
        answers=None if like.answers is None else ["abstain"],
    )


def _batch(arrays: PredictionArrays, value: bytes, wrong: Wrong) -> PredictionBatch:
    n = len(arrays.request_ids)
    for name in _ARRAYS:
        same_length(name, getattr(arrays, name), n)
    errors, segments, traces = arrays.errors or [], arrays.segments or [], arrays.traceparents or []
    answers = _answers(arrays)
    outputs, other_length = _outputs(arrays.outputs)
    wrong = wrong | other_length | _not_one_answer(arrays, answers)
    batch = PredictionBatch(
        arrays.member,
        list(map(str.encode, arrays.request_ids)),
        outputs,
        None if arrays.ats is None else np.array([NO_TIME if at is None else at for at in arrays.ats]),
        answers if answers.any() else None,
        {row: text for row, text in enumerate(errors) if text},
        {row: name for row, name in enumerate(segments) if name},
        {row: trace.encode() for row, trace in enumerate(traces) if trace},
        wrong,
        form=FORMAT_ARRAYS,
    )
    if wrong:
        originals = SingleRows(value, _ARRAYS)
        batch.originals = {row: originals[row] for row in wrong}
    return batch


def _answers(arrays: PredictionArrays) -> NDArray[np.uint8]:
    if arrays.answers is not None:
        return np.array([_NAMES[name] for name in arrays.answers], np.uint8)
    errors = arrays.errors or [None] * len(arrays.outputs)
    return np.array(
        [
            Answer.ERROR if error is not None else Answer.ABSTAIN if output is None else Answer.OUTPUT
            for output, error in zip(arrays.outputs, errors, strict=True)
        ],
        np.uint8,
    )


def _not_one_answer(arrays: PredictionArrays, answers: NDArray[np.uint8]) -> Wrong:
    has_output = np.array([output is not None for output in arrays.outputs])
    right = has_output == (answers == Answer.OUTPUT)
    if arrays.errors is not None:
        right &= np.array([error is None for error in arrays.errors]) | (answers == Answer.ERROR)
    return {
        row: RecordError("not-one-answer", "outputs, answers, errors: exactly one answer must be given")
        for row in np.flatnonzero(~right).tolist()
    }


def _outputs(rows: Sequence[list[float] | None]) -> tuple[NDArray[np.float64], Wrong]:
    """``N x C`` and the rows that have not C numbers; C is what most rows have."""
    lengths = Counter(len(row) for row in rows if row is not None)
    if len(lengths) == 1 and None not in rows:
        return np.array(rows, np.float64), {}
    C = lengths.most_common(1)[0][0] if lengths else 0
    outputs = np.zeros((len(rows), C))
    wrong = {}
    for place, row in enumerate(rows):
        if row is not None and len(row) == C:
            outputs[place] = row
        elif row is not None:
            wrong[place] = RecordError(
                "wrong-length", f"outputs[{place}]: {len(row)} numbers, the others have {C}"
            )
    return outputs, wrong


def _dense(texts: dict[int, str], rows: int) -> list[str | None] | None:
    return [texts.get(row) for row in range(rows)] if texts else None
