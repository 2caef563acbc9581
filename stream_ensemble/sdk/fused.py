"""FusedConsumer: the fused answers of an ensemble, one at a time."""

from __future__ import annotations

import logging
import time
from collections import deque
from types import TracebackType
from typing import Self

from stream_ensemble import config
from stream_ensemble.errors import StreamEnsembleError
from stream_ensemble.sdk.consuming import Record, Start, TopicReader
from stream_ensemble.sdk.fused_records import FusedRecord, fused_rows, unreadable
from stream_ensemble.sdk.lookup import ensemble_of

log = logging.getLogger(__name__)

_POLL_RECORDS = 1000


class FusedConsumer:
    """Iterates over fused records: ``async for record in consumer``. An async context manager, for one task.

    Reads single and columnar records, mixed as they come.

    With ``group``: members of a group share the partitions. A record counts as processed when the loop takes
    the next one or calls ``commit``; what is processed is committed every ``kafka.commit_interval_s`` and on
    leaving. So after a crash, or a ``break``, the last records come again: at least once. A new group starts
    at the end, or at the beginning if ``from_beginning``. A columnar record counts when its last row does.

    Without: every record of every partition from now on, or from the beginning; nothing is committed.

    Args:
        settings: the whole settings.
        ensemble: a name in ``settings.ensembles``.
        group: a Kafka consumer group id of your own.
        from_beginning: see above.

    Raises (while iterating and on entering):
        ServerUnavailableError, TopologyError, RefusedError: as PredictionPublisher.
        RecordError: a record that this version cannot read; iterating on skips it.
    """

    def __init__(
        self,
        settings: config.Settings,
        ensemble: str,
        *,
        group: str | None = None,
        from_beginning: bool = False,
    ) -> None:
        chosen = ensemble_of(settings, ensemble)
        self._reader = TopicReader(
            settings.kafka,
            config.topic_names(ensemble, chosen).fused,
            chosen,
            group=group,
            start=Start.BEGINNING if from_beginning else Start.END,
            on_revoked=self._give_up_waiting,
        )
        self._waiting: deque[Record] = deque()
        self._rows: deque[FusedRecord] = deque()
        #: Partition and offset after the record whose last row was handed out.
        self._taken: tuple[int, int] | None = None
        self._processed: dict[int, int] = {}
        self._commit_interval_s = settings.kafka.commit_interval_s
        self._committed_at = time.monotonic()

    async def __aenter__(self) -> Self:
        await self._reader.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._commit_processed()
        except StreamEnsembleError as lost:
            log.warning("left without committing, the last records will be read again: %s", lost)
        finally:
            await self._reader.stop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> FusedRecord:
        self._count_taken()
        await self._commit_when_due()
        while not self._rows:
            await self._take_record()
        row = self._rows.popleft()
        self._taken = None if self._rows else (row.partition, row.offset + 1)
        return row

    async def commit(self) -> None:
        """Counts the record taken last as processed and commits now; a columnar one once its last row is
        taken.
        """
        self._count_taken()
        await self._commit_processed()

    async def _take_record(self) -> None:
        """Fills ``_rows`` from the next record, waiting for one."""
        while not self._waiting:
            self._waiting.extend(await self._reader.poll(_POLL_RECORDS))
            await self._commit_when_due()
        record = self._waiting.popleft()
        # One that cannot be read counts when whoever met it iterates on.
        self._taken = (record.partition, record.offset + 1)
        if record.error is not None:
            raise unreadable(record, record.error)
        self._rows.extend(fused_rows(record))

    def _count_taken(self) -> None:
        if self._taken is not None:
            partition, after = self._taken
            self._processed[partition] = after
            self._taken = None

    async def _commit_when_due(self) -> None:
        if self._processed and time.monotonic() - self._committed_at >= self._commit_interval_s:
            await self._commit_processed()

    async def _commit_processed(self) -> None:
        processed, self._processed = self._processed, {}
        self._committed_at = time.monotonic()
        if processed:
            await self._reader.commit(processed)

    async def _give_up_waiting(self) -> None:
        # Their next owner reads them; handing them out here too would only double them.
        self._waiting.clear()
        self._rows.clear()
        await self._commit_processed()
