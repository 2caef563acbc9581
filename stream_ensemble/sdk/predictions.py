"""PredictionPublisher: one member's predictions into its topic."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble import config
from stream_ensemble.columnar import predictions as columnar
from stream_ensemble.columnar.predictions import PredictionBatch
from stream_ensemble.core.tasks.choose import domain_of
from stream_ensemble.messages import Milliseconds, Name, Prediction
from stream_ensemble.sdk.errors import InvalidInputError
from stream_ensemble.sdk.lookup import checked, each, ensemble_of, keys_of, predictions_topic, trace_headers
from stream_ensemble.sdk.outputs import rows_of
from stream_ensemble.sdk.prediction_batches import output_batch, prediction_batch
from stream_ensemble.sdk.prediction_messages import answer, failure
from stream_ensemble.sdk.producing import Record, TopicProducer
from stream_ensemble.sdk.wire import BatchWire, Wire, records_of


class PredictionPublisher:
    """Publishes what ``member`` answers. An async context manager; calls may be concurrent.

    Every method returns when Kafka has acknowledged. A wrong argument is found before anything is sent.

    Args:
        settings: the whole settings, see ``stream_ensemble.settings_file.load``.
        ensemble: a name in ``settings.ensembles``.
        member: a name in the ensemble's ``members``.

    Raises (from every method and from entering):
        InvalidInputError: an argument is wrong; the message names the row. Nothing was sent.
        ServerUnavailableError: Kafka does not answer. Retriable.
        RefusedError: the broker refused records.
        TopologyError: the topic is missing or has another number of partitions than the settings say.
    """

    def __init__(self, settings: config.Settings, ensemble: str, member: str) -> None:
        topic = predictions_topic(settings, ensemble, member)
        self.member = member
        self._domain = domain_of(ensemble_of(settings, ensemble).task)
        self._partitions = settings.ensembles[ensemble].partitions
        self._producer = TopicProducer(settings.kafka, topic, self._partitions)

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """What leaving the context does: flushes for a few seconds at most, and disconnects."""
        await self._producer.stop()

    async def publish(
        self,
        request_id: str,
        output: Any,
        *,
        at: int | None = None,
        segment: str | None = None,
        traceparent: str | None = None,
    ) -> None:
        """Publishes one output.

        Args:
            request_id: names the request.
            output: class probabilities in the order of the task's classes, or a number for each horizon;
                list, NumPy or torch.
            at: when the request was made, milliseconds since the epoch; absent: when Kafka appends it.
            segment: the segment of the request.
            traceparent: W3C trace context, passed on in the record's headers.
        """
        rows = self._checked([output], [request_id])
        await self._answer([request_id], rows, [at], [segment], traceparent)

    async def publish_many(
        self,
        request_ids: Sequence[str],
        outputs: Any,
        *,
        at: int | Sequence[int | None] | NDArray[np.integer[Any]] | None = None,
        segments: str | Sequence[str | None] | None = None,
    ) -> None:
        """Publishes N outputs by batches.

        Args:
            request_ids: N ids.
            outputs: ``N x C`` class probabilities; lists, NumPy or torch. In a list None is an abstention.
            at: as in ``publish``, one for all or one for each.
            segments: as in ``publish``, one for all or one for each.
        """
        rows = self._checked(outputs, request_ids)
        await self._answer(
            request_ids, rows, each(at, len(rows), "at"), each(segments, len(rows), "segments")
        )

    async def publish_batch(
        self,
        request_ids: Sequence[str],
        outputs: Any,
        *,
        at: int | Sequence[int | None] | NDArray[np.integer[Any]] | None = None,
        segments: str | Sequence[str | None] | None = None,
        errors: Sequence[str | None] | None = None,
        traceparents: Sequence[str | None] | None = None,
        wire: BatchWire = "columns",
    ) -> None:
        """Publishes a model's batch of N outputs as columnar records, one for each partition.

        Cheaper to write than ``publish_many``, and many times cheaper to read.

        Args:
            request_ids: N ids.
            outputs: ``N x C`` class probabilities; lists, NumPy or torch. In a list None is an abstention.
            at: as in ``publish``, one for all or one for each.
            segments: as in ``publish``, one for all or one for each.
            errors: N texts or absences: what the model failed with, instead of the row in ``outputs``.
            traceparents: N trace contexts or absences.
            wire: binary columns or JSON arrays.
        """
        batch = output_batch(
            self.member,
            self._domain,
            request_ids,
            outputs,
            at=at,
            segments=segments,
            errors=errors,
            traceparents=traceparents,
        )
        await self._send_batch(batch, wire)

    async def abstain(
        self,
        request_id: str,
        *,
        at: int | None = None,
        segment: str | None = None,
        traceparent: str | None = None,
    ) -> None:
        """Says that the member has no answer, so that nobody waits for it."""
        await self._answer([request_id], [None], [at], [segment], traceparent)

    async def error(
        self,
        request_id: str,
        text: str,
        *,
        at: int | None = None,
        segment: str | None = None,
        traceparent: str | None = None,
    ) -> None:
        """Says that the member failed on the request, and with what; at most 500 characters are kept."""
        checked_at = checked(at, Milliseconds | None, "at")
        checked_segment = checked(segment, Name | None, "segment")
        failed = failure(request_id, self.member, text, at=checked_at, segment=checked_segment)
        await self.send([failed], [traceparent])

    async def send(
        self,
        predictions: Sequence[Prediction],
        traceparents: Sequence[str | None] | None = None,
        *,
        wire: Wire = "json",
    ) -> None:
        """Publishes ready-made predictions, whose outputs the caller has checked.

        Args:
            predictions: N predictions of this member.
            traceparents: N trace contexts or absences.
            wire: a JSON record each, or columnar records.
        """
        if wire != "json":
            batch = prediction_batch(self.member, len(self._domain.names), predictions, traceparents)
            await self._send_batch(batch, wire)
            return
        keys = keys_of([prediction.request_id for prediction in predictions])
        values = map(msgspec.json.Encoder().encode, predictions)
        headers = map(trace_headers, traceparents or repeat(None, len(keys)))
        await self._producer.send(list(map(Record, keys, values, headers)))

    async def _send_batch(self, batch: PredictionBatch, wire: BatchWire) -> None:
        pack = columnar.pack if wire == "columns" else columnar.pack_arrays
        await self._producer.send(records_of(batch, pack, wire, self._partitions))

    def _checked(self, outputs: Any, request_ids: Sequence[str]) -> list[list[float] | None]:
        rows = rows_of(outputs, len(request_ids), self._domain)
        for row, problem in rows.problems.items():
            raise InvalidInputError(f"row {row} (request {request_ids[row]!r}): {problem}")
        return rows.outputs

    async def _answer(
        self,
        request_ids: Sequence[str],
        rows: Sequence[list[float] | None],
        at: Sequence[int | None],
        segments: Sequence[str | None],
        traceparent: str | None = None,
    ) -> None:
        times = checked(at, list[Milliseconds | None], "at")
        names = checked(segments, list[Name | None], "segments")
        predictions = [
            answer(request_id, self.member, output, at=time, segment=segment)
            for request_id, output, time, segment in zip(request_ids, rows, times, names, strict=True)
        ]
        await self.send(predictions, [traceparent] * len(predictions))
