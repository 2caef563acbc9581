"""What the fused topic says of the past: which requests ended, and which predictions were used for them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from stream_ensemble.columnar import fuseds
from stream_ensemble.columnar.forms import has_form
from stream_ensemble.columnar.fuseds import FusedBatch
from stream_ensemble.core.join.closed_index import digests
from stream_ensemble.core.join.state import PartitionJoin
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.chunks import Columns
from stream_ensemble.kafka.decode import decode
from stream_ensemble.messages import Source

log = logging.getLogger(__name__)

#: Stands so in a fused record that was decided early and nowhere else: quotes in strings are escaped.
_EARLY: Final = b'"cause":"early"'


class _Sources(msgspec.Struct):
    sources: dict[str, Source]


_decode_sources: Final = msgspec.json.Decoder(_Sources).decode


class FusedHistory:
    """Fills the index of a join from the records of fused p.

    Args:
        topics: number of each input topic, by name.
        positions: where reading each of them begins; a prediction used at or after it will be read again.
    """

    def __init__(self, join: PartitionJoin, topics: Mapping[str, int], positions: Sequence[int]) -> None:
        self._join = join
        self._topics = topics
        self._positions = positions
        self.requests = 0

    def note(self, columns: Columns, replay_from: int | None) -> None:
        """Take N records of the fused topic.

        ``replay_from`` is the least append time (ms) of what is still to be read; None: nothing is.
        """
        ended: list[bytes] = []
        early: list[bytes] = []
        for record, appended in zip(columns.records, columns.appended.tolist(), strict=True):
            again = replay_from is not None and appended >= replay_from
            if has_form(record):
                self._note_batch(record, ended, early, again)
            elif record.key is not None:
                ended.append(record.key)
                if _EARLY in (record.value or b""):
                    early.append(record.key)
                if again:
                    self._note_sources(record)
        newest = int(columns.appended.max())
        self._join.closed.add_digests(*digests(ended), newest)
        self._join.closed_early.add(early, newest)
        self.requests += len(ended)

    def _note_batch(self, record: Any, ended: list[bytes], early: list[bytes], again: bool) -> None:
        try:
            batch = fuseds.unpack(record.value or b"")
        except RecordError as error:
            # No fuser wrote this: theirs are read back, and checked by their checksums.
            log.error("record at offset %d of the fused topic is no fuser's: %s", record.offset, error)
            return
        ended += batch.ids
        if batch.head.cause == "early":
            early += batch.ids
        if again:
            self._note_batch_sources(batch)

    def _note_batch_sources(self, batch: FusedBatch) -> None:
        within = np.zeros_like(batch.offsets) if batch.within is None else batch.within
        for a, topic in enumerate(batch.head.topics):
            self._used(topic, batch.offsets[:, a].tolist(), within[:, a].tolist())

    def _note_sources(self, record: Any) -> None:
        try:
            sources = decode(record.value, _decode_sources).sources
        except RecordError:
            log.warning("fused record at offset %d cannot be read; its sources are unknown", record.offset)
            return
        for topic, _, offset, row in sources.values():
            self._used(topic, [offset], [row])

    def _used(self, topic: str, offsets: Iterable[int], rows: Iterable[int]) -> None:
        """Reading these again is a replay, not lateness."""
        t = self._topics.get(topic)
        if t is None:
            return
        begin = self._positions[t]
        used = {(offset, row) for offset, row in zip(offsets, rows, strict=True) if offset >= begin}
        if used:
            self._join.used_before.setdefault(t, set()).update(used)
