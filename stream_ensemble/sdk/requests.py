"""RequestPublisher: questions into the requests topic, where ModelWorkers read them."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from stream_ensemble import config
from stream_ensemble.messages import Request
from stream_ensemble.sdk.errors import InvalidInputError
from stream_ensemble.sdk.lookup import checked, ensemble_of, keys_of, plain, requests_topic, trace_headers
from stream_ensemble.sdk.producing import Record, TopicProducer


class RequestPublisher:
    """Publishes the requests of ``ensemble``. An async context manager; safe for concurrent calls.

    Raises (from every method and from entering):
        InvalidInputError, ServerUnavailableError, RefusedError, TopologyError: as PredictionPublisher.
        SettingsError (when made): the ensemble is unknown or has no requests topic.
    """

    def __init__(self, settings: config.Settings, ensemble: str) -> None:
        topic = requests_topic(settings, ensemble)
        self._ensemble = ensemble_of(settings, ensemble)
        self._producer = TopicProducer(settings.kafka, topic, self._ensemble.partitions)

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
        features: Any = None,
        *,
        segment: str | None = None,
        at: int | None = None,
        deadline_ms: int | None = None,
        members: Sequence[str] | None = None,
        traceparent: str | None = None,
    ) -> None:
        """Publishes one request; returns when Kafka has acknowledged it.

        Args:
            request_id: names the request, once in the life of the ensemble.
            features: what the models are asked about: anything JSON holds, NumPy arrays and torch tensors
                too. NaN becomes null, for JSON has none.
            segment: whose weights to use.
            at: when the request was made, milliseconds since the epoch; absent: when Kafka appends it.
            deadline_ms: how long to wait for this request's members instead of the ensemble's deadline.
            members: who is expected to answer, absent: all. The others' workers skip the request.
            traceparent: W3C trace context, passed on in the record's headers.
        """
        fields = {
            "version": 1,
            "kind": "request",
            "request_id": request_id,
            "at": plain(at),
            "segment": segment,
            "members": self._known(members),
            "deadline_ms": plain(deadline_ms),
        }
        request = checked(fields, Request, "request")
        request.features = _raw(features)
        record = Record(keys_of([request_id])[0], msgspec.json.encode(request), trace_headers(traceparent))
        await self._producer.send([record])

    def _known(self, members: Sequence[str] | None) -> list[str] | None:
        if members is None:
            return None
        known = list(config.everyone(self._ensemble))
        if not members or isinstance(members, str) or not set(members) <= set(known):
            raise InvalidInputError(f"members {members!r}: expected some of {known}")
        return list(members)


def _raw(features: Any) -> msgspec.Raw | msgspec.UnsetType:
    if features is None:
        return msgspec.UNSET
    try:
        return msgspec.Raw(msgspec.json.encode(features, enc_hook=_listed))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"features: {error}") from error


def _listed(value: Any) -> Any:
    listed = plain(value)
    if listed is value:
        raise TypeError(f"{type(value).__name__} has no JSON form")
    return listed
