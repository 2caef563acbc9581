"""FeedbackPublisher: labels into the feedback topic, seconds or days after the answer."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble import config
from stream_ensemble.columnar import feedbacks as columnar
from stream_ensemble.columnar.feedbacks import FeedbackBatch
from stream_ensemble.messages import Feedback, LabelWeight, Revision
from stream_ensemble.sdk.errors import InvalidInputError
from stream_ensemble.sdk.lookup import checked, each, ensemble_of, keys_of, plain, times_of, trace_headers
from stream_ensemble.sdk.producing import Record, TopicProducer
from stream_ensemble.sdk.wire import BatchWire, records_of


class FeedbackPublisher:
    """Publishes the labels of ``ensemble``. An async context manager; safe for concurrent calls.

    Raises (from every method and from entering):
        InvalidInputError, ServerUnavailableError, RefusedError, TopologyError: as PredictionPublisher.
        SettingsError (when made): the ensemble is unknown.
    """

    def __init__(self, settings: config.Settings, ensemble: str) -> None:
        chosen = ensemble_of(settings, ensemble)
        self._classes = chosen.task.classes
        self._partitions = chosen.partitions
        self._producer = TopicProducer(
            settings.kafka, config.topic_names(ensemble, chosen).feedback, chosen.partitions
        )

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._producer.stop()

    async def publish(
        self,
        request_id: str,
        label: int | str | np.integer[Any],
        *,
        revision: int = 0,
        weight: float = 1.0,
        at: int | None = None,
        traceparent: str | None = None,
    ) -> None:
        """Publishes one label; returns when Kafka has acknowledged it. Publishing it again changes nothing.

        Args:
            request_id: the request the label answers.
            label: the class, by name or by index in the task's classes.
            revision: a later revision corrects an earlier one.
            weight: how much the label counts, above 0.
            at: when the label became known, milliseconds since the epoch.
            traceparent: W3C trace context, passed on in the record's headers.
        """
        fields = {
            "version": 1,
            "kind": "feedback",
            "request_id": request_id,
            "label": self._known(plain(label)),
            "at": plain(at),
            "revision": plain(revision),
            "weight": plain(weight),
        }
        feedback = checked(fields, Feedback, "feedback")
        record = Record(keys_of([request_id])[0], msgspec.json.encode(feedback), trace_headers(traceparent))
        await self._producer.send([record])

    async def publish_batch(
        self,
        request_ids: Sequence[str],
        labels: Sequence[int | str] | NDArray[np.integer[Any]],
        *,
        revisions: int | Sequence[int] | NDArray[np.integer[Any]] = 0,
        weights: float | Sequence[float] | NDArray[np.floating[Any]] = 1.0,
        at: int | Sequence[int | None] | NDArray[np.integer[Any]] | None = None,
        wire: BatchWire = "columns",
    ) -> None:
        """Publishes N labels as columnar records, one for each partition.

        Args:
            request_ids: the N requests the labels answer.
            labels: N classes, by name or by index in the task's classes.
            revisions, weights, at: as in ``publish``, one for all or one for each.
            wire: binary columns or JSON arrays.
        """
        n = len(request_ids)
        known = [self._index_of(label, row) for row, label in enumerate(each(labels, n, "labels"))]
        batch = FeedbackBatch(
            keys_of(request_ids),
            known,  # type: ignore[arg-type]  # a list of int is none of int | str
            times_of(at, n),
            _column(revisions, n, "revisions", list[Revision], 0),
            _column(weights, n, "weights", list[LabelWeight], 1.0),
        )
        pack = columnar.pack if wire == "columns" else columnar.pack_arrays
        await self._producer.send(records_of(batch, pack, wire, self._partitions))

    def _index_of(self, label: object, row: int) -> int:
        try:
            known = self._known(label)
        except InvalidInputError as error:
            raise InvalidInputError(f"row {row}: {error}") from None
        return known if type(known) is int else self._classes.index(str(known))

    def _known(self, label: object) -> object:
        classes = self._classes
        # type() and not isinstance(): True is an int, but whoever passes it has mixed up the argument.
        if (type(label) is int and 0 <= label < len(classes)) or label in classes:
            return label
        names = ", ".join(classes[:10]) + (", …" if len(classes) > 10 else "")
        raise InvalidInputError(f"label {label!r}: expected 0 to {len(classes) - 1} or one of {names}")


def _column(value: Any, count: int, name: str, wanted: Any, absent: float) -> NDArray[Any] | None:
    """A column of numbers; None where all are what an ``absent`` column says."""
    column = np.array(checked(each(value, count, name), wanted, name), type(absent))
    return column if (column != absent).any() else None
