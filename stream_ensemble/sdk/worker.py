"""ModelWorker: a model on the stream. Reads the requests topic, calls ``predict``, publishes what it answers.

Delivery: an offset is committed only after the predictions made from what stands before it are acknowledged.
A crash in between answers some requests twice; the second answer is counted as a duplicate.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from stream_ensemble import config, messages
from stream_ensemble.core.tasks.choose import domain_of
from stream_ensemble.errors import StreamEnsembleError
from stream_ensemble.messages import UNREADABLE, Prediction
from stream_ensemble.sdk.answering import Answering, Predict, Request
from stream_ensemble.sdk.batch_gate import BatchGate
from stream_ensemble.sdk.consuming import Record, Start, TopicReader
from stream_ensemble.sdk.lookup import ensemble_of, requests_topic, traceparent_of
from stream_ensemble.sdk.predictions import PredictionPublisher
from stream_ensemble.sdk.wire import Wire

log = logging.getLogger(__name__)

_RETRY_S = 1.0
#: How soon a stop is seen while the group changes.
_IDLE_S = 0.2
_FINISH_WITHIN_S = 4.0


class _Asked(messages.Request, kw_only=True):
    """A request off the wire with its features decoded, which nobody but a model needs."""

    features: Any = None


class ModelWorker:
    """Answers the requests of ``ensemble`` as ``member``. Several processes share the work as one group.

    A request whose ``predict`` raises, or whose row is no valid output, is answered with an error; the worker
    goes on. A record it cannot read is left to the fuser, which owns the dead-letter topic.

    Args:
        settings: the whole settings.
        ensemble: a name in ``settings.ensembles``.
        member: a name in the ensemble's ``members``.
        predict: takes a list of N requests, returns ``N x C`` probabilities (lists, NumPy, torch; None in a
            list is an abstention). A plain function runs in one thread of its own, a coroutine function on
            the event loop.
        max_batch: largest N.
        from_beginning: where a new group begins: at the first request, or at the lateness horizon.
        wire: a JSON record for each prediction, or columnar records for each batch: binary columns or JSON
            arrays.

    Raises:
        SettingsError: the ensemble or member is unknown, or there is no requests topic.
    """

    def __init__(
        self,
        settings: config.Settings,
        ensemble: str,
        member: str,
        predict: Predict,
        *,
        max_batch: int = 256,
        from_beginning: bool = False,
        wire: Wire = "json",
    ) -> None:
        chosen = ensemble_of(settings, ensemble)
        self.member = member
        self._gate = BatchGate(settings.kafka.rebalance_timeout_s / 2)
        self._publisher = PredictionPublisher(settings, ensemble, member)
        self._reader = TopicReader(
            settings.kafka,
            requests_topic(settings, ensemble),
            chosen,
            group=f"{settings.app}-model-{ensemble}-{member}",
            start=Start.BEGINNING if from_beginning else Start.LATENESS_HORIZON,
            on_revoked=self._gate.close,
            on_assigned=self._gate.open,
        )
        self._answering = Answering(member, domain_of(chosen.task), predict)
        self._decode = msgspec.json.Decoder(_Asked).decode
        self._max_batch = max_batch
        self._wire: Wire = wire
        self._stopping = asyncio.Event()

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT; then finishes the batch in hand and commits it.

        Raises:
            As ``serve``.
        """
        asyncio.run(self._serve_until_signalled())

    def stop(self) -> None:
        """Asks ``serve`` to finish the batch in hand, commit it and return. Call it on the event loop."""
        self._stopping.set()

    async def serve(self) -> None:
        """Serves until ``stop``; the batch in hand then has a few seconds.

        Raises:
            ServerUnavailableError: Kafka does not answer at the start; later it is waited for.
            TopologyError: a topic is missing or has another number of partitions than the settings say.
            RefusedError: the broker refuses the predictions for good; nothing of them is committed.
        """
        working = asyncio.create_task(self._work())
        ending = asyncio.create_task(self._end(working))
        try:
            await working
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
        finally:
            ending.cancel()
            self._answering.close()
            await asyncio.gather(self._publisher.close(), self._reader.stop())

    async def _end(self, working: asyncio.Task[None]) -> None:
        """Once asked to stop, cuts ``working`` off if it does not end by itself, as when Kafka is away."""
        await self._stopping.wait()
        _, pending = await asyncio.wait({working}, timeout=_FINISH_WITHIN_S)
        if pending:
            log.warning("%s gives up what it has in hand; it will be answered again", self.member)
            working.cancel()

    async def _work(self) -> None:
        await self._publisher.__aenter__()
        await self._reader.start()
        log.info("%s answers requests from %s", self.member, self._reader.topic)
        while not self._stopping.is_set():
            if await self._gate.enter(_IDLE_S):
                try:
                    await self._serve_batch()
                finally:
                    self._gate.leave()

    async def _serve_until_signalled(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        await self.serve()

    async def _serve_batch(self) -> None:
        records = await self._polled()
        asked = [(request, record) for record in records if (request := self._read(record)) is not None]
        requests = [request for request, _ in asked]
        if requests:
            predictions = await self._answering.answer(requests)
            if not await self._published(predictions, requests):
                return
        await self._committed({record.partition: record.offset + 1 for record in records})

    async def _polled(self) -> list[Record]:
        try:
            return await self._reader.poll(self._max_batch)
        except StreamEnsembleError as error:
            await self._wait_out(error)
            return []

    def _read(self, record: Record) -> Request | None:
        """The request in ``record``; None when it cannot be read or does not ask this member."""
        if record.error is not None:
            return None
        try:
            request = self._decode(record.value or b"")
        except UNREADABLE as error:
            log.warning("skipped %s-%d offset %d: %s", record.topic, record.partition, record.offset, error)
            return None
        if request.members is not None and self.member not in request.members:
            return None
        return Request(
            request_id=request.request_id,
            features=request.features,
            at=record.timestamp if request.at is None else request.at,
            segment=request.segment,
            deadline_ms=request.deadline_ms,
            traceparent=traceparent_of(record.headers),
        )

    async def _published(self, predictions: Sequence[Prediction], requests: Sequence[Request]) -> bool:
        """Publishes, waiting out whatever may pass; False when asked to stop while it does not pass."""
        traceparents = [request.traceparent for request in requests]
        while True:
            try:
                await self._publisher.send(predictions, traceparents, wire=self._wire)
                return True
            except StreamEnsembleError as error:
                await self._wait_out(error)
            if self._stopping.is_set():
                return False

    async def _committed(self, offsets: dict[int, int]) -> None:
        try:
            await self._reader.commit(offsets)
        except StreamEnsembleError as error:
            # A later commit covers this one; until then a crash only answers again.
            await self._wait_out(error)

    async def _wait_out(self, error: StreamEnsembleError) -> None:
        if not error.retriable:
            raise error
        log.warning("%s tries again in %s s: %s", self.member, _RETRY_S, error)
        with suppress(TimeoutError):
            async with asyncio.timeout(_RETRY_S):
                await self._stopping.wait()
