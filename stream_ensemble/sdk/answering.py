"""One batch of requests through a model: a prediction for each, whatever the model does."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from stream_ensemble.core.tasks.domain import Domain
from stream_ensemble.messages import Prediction
from stream_ensemble.sdk.outputs import rows_of
from stream_ensemble.sdk.prediction_messages import answer, failure

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as a model sees it: ``features`` are decoded, ``at`` is always known (milliseconds)."""

    request_id: str
    features: Any
    at: int
    segment: str | None = None
    deadline_ms: int | None = None
    traceparent: str | None = None


#: ``N`` requests to ``N x V`` numbers, such as class probabilities: lists, NumPy or torch; in a list None is
#: an abstention.
Predict = Callable[[list[Request]], Any] | Callable[[list[Request]], Awaitable[Any]]


class Answering:
    """Calls ``predict``: a coroutine function on the event loop, any other in one thread of its own."""

    def __init__(self, member: str, domain: Domain, predict: Predict) -> None:
        self._member = member
        self._domain = domain
        self._predict = predict
        self._is_async = inspect.iscoroutinefunction(predict) or inspect.iscoroutinefunction(
            type(predict).__call__
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"predict-{member}")

    async def answer(self, requests: Sequence[Request]) -> list[Prediction]:
        """A prediction for each request, in order: its output, an abstention, or the error that came instead.

        When the model raises on a batch, every request is tried alone, so one bad request spoils only itself.
        """
        try:
            return await self._outputs(requests)
        except Exception as error:
            if len(requests) == 1:
                return [self._failed(requests[0], error)]
            log.warning(
                "%s raised on %d requests, trying them one by one: %r", self._member, len(requests), error
            )
        return [prediction for request in requests for prediction in await self.answer([request])]

    def close(self) -> None:
        """Lets the thread end; does not wait for a model that is still busy."""
        self._thread.shutdown(wait=False)

    async def _outputs(self, requests: Sequence[Request]) -> list[Prediction]:
        batch = list(requests)
        if self._is_async:
            outputs = await self._predict(batch)
        else:
            outputs = await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, batch)
        rows = rows_of(outputs, len(requests), self._domain)
        if rows.problems:
            row, problem = next(iter(rows.problems.items()))
            log.warning(
                "%s answered %d of %d requests wrongly, first %s: %s",
                self._member, len(rows.problems), len(requests), requests[row].request_id, problem,
            )  # fmt: skip
        return [
            self._failure(request, rows.problems[row])
            if row in rows.problems
            else answer(request.request_id, self._member, output, at=request.at, segment=request.segment)
            for row, (request, output) in enumerate(zip(requests, rows.outputs, strict=True))
        ]

    def _failed(self, request: Request, error: Exception) -> Prediction:
        log.error("%s raised on request %s", self._member, request.request_id, exc_info=error)
        return self._failure(request, f"{type(error).__name__}: {error}")

    def _failure(self, request: Request, text: str) -> Prediction:
        return failure(request.request_id, self._member, text, at=request.at, segment=request.segment)
