"""Whatever a model does with a batch, each request gets a prediction."""

from __future__ import annotations

import asyncio
import logging
import threading

import numpy as np
import pytest

from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.messages import Prediction
from stream_ensemble.sdk.answering import Answering, Predict, Request

DOMAIN = Classes(("x", "y"))
RIGHT = [0.25, 0.75]


def requests(*features: object) -> list[Request]:
    return [
        Request(request_id=f"r{row}", features=value, at=1000 + row, segment="s")
        for row, value in enumerate(features)
    ]


def answers(predict: Predict, *features: object) -> list[Prediction]:
    answering = Answering("m", DOMAIN, predict)
    try:
        return asyncio.run(answering.answer(requests(*features)))
    finally:
        answering.close()


def test_an_answer_carries_member_time_and_segment_of_its_request() -> None:
    (prediction,) = answers(lambda batch: np.array([RIGHT]), 1)
    assert prediction == Prediction(
        version=1,
        kind="prediction",
        request_id="r0",
        member="m",
        at=1000,
        output=RIGHT,
        segment="s",
    )


def test_none_is_published_as_an_abstention() -> None:
    abstained, answered = answers(lambda batch: [None, RIGHT], 1, 2)
    assert (abstained.abstain, abstained.output) == (True, None)
    assert (answered.abstain, answered.output) == (False, RIGHT)


def test_one_request_the_model_raises_on_does_not_spoil_its_batch(caplog: pytest.LogCaptureFixture) -> None:
    def predict(batch: list[Request]) -> list[list[float]]:
        return [[request.features / 4, 1 - request.features / 4] for request in batch]

    with caplog.at_level(logging.WARNING):
        first, bad, last = answers(predict, 1, None, 2)
    assert [first.output, last.output] == [[0.25, 0.75], [0.5, 0.5]]
    assert bad.output is None
    assert bad.error is not None
    assert bad.error.startswith("TypeError: unsupported operand")
    assert "m raised on request r1" in caplog.text
    assert "Traceback" in caplog.text


def test_a_model_that_always_raises_answers_each_request_with_its_error() -> None:
    def predict(batch: list[Request]) -> list[list[float]]:
        raise RuntimeError("out of memory")

    assert [each.error for each in answers(predict, 1, 2)] == ["RuntimeError: out of memory"] * 2


def test_a_row_that_is_no_output_becomes_an_error_without_asking_again() -> None:
    calls: list[int] = []

    def predict(batch: list[Request]) -> np.ndarray:
        calls.append(len(batch))
        return np.array([RIGHT, [np.nan, 1.0], RIGHT])

    first, bad, last = answers(predict, 1, 2, 3)
    assert calls == [3]
    assert bad.error == "output[0]: nan is not between 0 and 1"
    assert [first.output, last.output] == [RIGHT, RIGHT]


def test_too_few_rows_are_answered_one_by_one() -> None:
    assert [each.output for each in answers(lambda batch: [RIGHT], 1, 2)] == [RIGHT, RIGHT]


def test_the_text_of_an_error_is_cut_and_can_always_be_written() -> None:
    def predict(batch: list[Request]) -> list[list[float]]:
        raise ValueError("\ud800" + "x" * 1000)

    (prediction,) = answers(predict, 1)
    assert prediction.error is not None
    assert len(prediction.error) == 500
    prediction.error.encode()


def test_a_plain_function_runs_in_one_thread_that_is_not_the_event_loops() -> None:
    threads = set()

    def predict(batch: list[Request]) -> list[list[float]]:
        threads.add(threading.get_ident())
        return [RIGHT for _ in batch]

    async def twice() -> None:
        answering = Answering("m", DOMAIN, predict)
        await asyncio.gather(answering.answer(requests(1)), answering.answer(requests(2)))
        answering.close()

    asyncio.run(twice())
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_coroutine_function_runs_on_the_event_loop() -> None:
    async def predict(batch: list[Request]) -> list[list[float]]:
        await asyncio.sleep(0)
        assert threading.current_thread() is threading.main_thread()
        return [RIGHT for _ in batch]

    assert answers(predict, 1)[0].output == RIGHT


def test_an_object_with_an_async_call_runs_on_the_event_loop() -> None:
    class Model:
        async def __call__(self, batch: list[Request]) -> list[list[float]]:
            return [RIGHT for _ in batch]

    assert answers(Model(), 1)[0].output == RIGHT
