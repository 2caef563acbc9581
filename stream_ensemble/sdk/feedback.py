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
from stream_ensemble.columnar import part_feedbacks
from stream_ensemble.columnar.feedbacks import FeedbackBatch
from stream_ensemble.core.tasks.choose import domain_of
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import Feedback, LabelWeight, PartFeedback, PartLabel, Revision
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
        self._domain = domain_of(chosen.task)
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
        label: int | str | bool | float | np.integer[Any] | np.floating[Any],
        *,
        part: int | str | None = None,
        revision: int = 0,
        weight: float = 1.0,
        at: int | None = None,
        traceparent: str | None = None,
    ) -> None:
        """Publishes one label; returns when Kafka has acknowledged it. Publishing it again changes nothing.

        Args:
            request_id: the request the label answers.
            label: the class, by name or by index in the task's classes; of a part whether the class is one of
                the request's, or the number that it turned out to be.
            part: the class (multilabel) or horizon (forecast), by name or by index; not in a classification.
            revision: a later revision corrects an earlier one, of the same part.
            weight: how much the label counts, above 0.
            at: when the label became known, milliseconds since the epoch.
            traceparent: W3C trace context, passed on in the record's headers.
        """
        fields = {
            "version": 1,
            "kind": "feedback",
            "request_id": request_id,
            **self._said(plain(label), plain(part)),
            "at": plain(at),
            "revision": plain(revision),
            "weight": plain(weight),
        }
        feedback = checked(fields, PartFeedback if self._domain.parts else Feedback, "feedback")
        record = Record(keys_of([request_id])[0], msgspec.json.encode(feedback), trace_headers(traceparent))
        await self._producer.send([record])

    async def publish_batch(
        self,
        request_ids: Sequence[str],
        labels: Sequence[int | str | bool | float] | NDArray[Any],
        *,
        parts: int | str | Sequence[int | str] | NDArray[np.integer[Any]] | None = None,
        revisions: int | Sequence[int] | NDArray[np.integer[Any]] = 0,
        weights: float | Sequence[float] | NDArray[np.floating[Any]] = 1.0,
        at: int | Sequence[int | None] | NDArray[np.integer[Any]] | None = None,
        wire: BatchWire = "columns",
    ) -> None:
        """Publishes N labels as columnar records, one for each partition.

        Args:
            request_ids: the N requests the labels answer; of several parts, each time anew.
            labels, parts: as in ``publish``, N labels and one part for all or one for each.
            revisions, weights, at: as in ``publish``, one for all or one for each.
            wire: binary columns or JSON arrays.
        """
        n = len(request_ids)
        of_parts = each(parts, n, "parts")
        known = [
            self._indexed(said, row)
            for row, said in enumerate(zip(each(labels, n, "labels"), of_parts, strict=True))
        ]
        batch = FeedbackBatch(
            keys_of(request_ids),
            known,  # type: ignore[arg-type]  # a list of int is none of int | str
            times_of(at, n),
            _column(revisions, n, "revisions", list[Revision], 0),
            _column(weights, n, "weights", list[LabelWeight], 1.0),
        )
        form = part_feedbacks if self._domain.parts else columnar
        pack = form.pack if wire == "columns" else form.pack_arrays
        await self._producer.send(records_of(batch, pack, wire, self._partitions))

    def _indexed(self, said: tuple[object, object], row: int) -> int | PartLabel:
        try:
            known = self._said(*said)
        except InvalidInputError as error:
            raise InvalidInputError(f"row {row}: {error}") from None
        label = known["label"]
        if self._domain.parts:
            part = known["part"]
            return PartLabel(part if type(part) is int else self._domain.parts.index(part), label)
        return label if type(label) is int else self._classes.index(str(label))

    def _said(self, label: object, part: object) -> dict[str, Any]:
        """What a label says, as fields of its message.

        Raises:
            InvalidInputError: nothing in this task.
        """
        if not self._domain.parts:
            if part is not None:
                raise InvalidInputError(
                    f"part {part!r}: labels of a classification are about the whole request"
                )
            return {"label": self._known(label)}
        if part is None:
            raise InvalidInputError(f"part: missing; expected one of {', '.join(self._domain.parts[:10])}")
        # type() and not isinstance(): True as a part is a mistake.
        if type(part) not in (int, str) or type(label) not in (bool, int, float):
            raise InvalidInputError(f"label {label!r} of part {part!r}: expected a number, or true or false")
        try:
            self._domain.meaning(PartLabel(part, label))  # type: ignore[arg-type]
        except RecordError as error:
            raise InvalidInputError(error.detail) from None
        return {"part": part, "label": label if type(label) is bool else float(label)}  # type: ignore[arg-type]

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
