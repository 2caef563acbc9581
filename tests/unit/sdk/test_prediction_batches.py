"""Whatever a model answers to a batch, outputs, abstentions and errors, stands in one batch of columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream_ensemble.columnar.predictions import PredictionBatch
from stream_ensemble.core.join.records import NO_TIME, Answer
from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.messages import Prediction
from stream_ensemble.sdk.prediction_batches import output_batch, prediction_batch

DOMAIN = Classes(("x", "y"))
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOTHING: dict[str, Any] = {"at": None, "segments": None, "errors": None, "traceparents": None}


def batch_of(outputs: Any, **more: Any) -> PredictionBatch:
    ids = [f"r{row}" for row in range(len(outputs))]
    return output_batch("forest", DOMAIN, ids, outputs, **(NOTHING | more))


def test_outputs_alone_say_nothing_else() -> None:
    batch = batch_of([[0.5, 0.5], [1.0, 0.0]])
    assert batch.ids == [b"r0", b"r1"]
    assert batch.outputs.tolist() == [[0.5, 0.5], [1.0, 0.0]]
    assert (batch.at, batch.answers, batch.errors, batch.segments, batch.traces) == (None, None, {}, {}, {})


@pytest.mark.parametrize(
    ("given", "written"), [(np.float16, np.float32), (np.float32, np.float32), (float, float)]
)
def test_numbers_are_written_as_fine_as_they_were_given(given: type, written: type) -> None:
    assert batch_of(np.array([[0.25, 0.75]], given)).outputs.dtype == written


def test_what_goes_with_a_row_stays_with_it() -> None:
    batch = batch_of(
        [[0.5, 0.5], None, None],
        at=[5, None, 7],
        segments=[None, "eu", None],
        errors=[None, None, "no picture"],
        traceparents=[None, None, TRACE],
    )
    assert batch.at is not None
    assert batch.at.tolist() == [5, NO_TIME, 7]
    assert batch.answers is not None
    assert batch.answers.tolist() == [Answer.OUTPUT, Answer.ABSTAIN, Answer.ERROR]
    assert batch.errors == {2: "no picture"}
    assert batch.segments == {1: "eu"}
    assert batch.traces == {2: TRACE.encode()}


def test_the_row_of_an_error_is_not_looked_at_and_not_written() -> None:
    batch = batch_of(np.array([[0.5, 0.5], [np.nan, 3]]), errors=[None, "no picture"])
    assert batch.outputs.tolist() == [[0.5, 0.5], [0.0, 0.0]]
    assert batch.answers is not None
    assert batch.answers.tolist() == [Answer.OUTPUT, Answer.ERROR]


def test_ready_made_predictions_become_the_same_columns() -> None:
    def prediction(request_id: str, **more: Any) -> Prediction:
        return Prediction(version=1, kind="prediction", request_id=request_id, member="forest", **more)

    given = [
        prediction("r0", output=[0.5, 0.5], at=5),
        prediction("r1", abstain=True, segment="eu"),
        prediction("r2", error="no picture", at=7),
    ]
    batch = prediction_batch("forest", 2, given, [None, None, TRACE])
    same = batch_of(
        [[0.5, 0.5], None, None],
        at=[5, None, 7],
        segments=[None, "eu", None],
        errors=[None, None, "no picture"],
        traceparents=[None, None, TRACE],
    )
    assert plain(batch) == plain(same)


def plain(batch: PredictionBatch) -> list[Any]:
    fields = [getattr(batch, name) for name in PredictionBatch.__slots__]
    return [field.tolist() if isinstance(field, np.ndarray) else field for field in fields]
