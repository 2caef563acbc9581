"""Single predictions from the bytes of their batches to the join's columns, by the compiled kernel.

The kernel takes what most records are. The others are looked at one by one here, as ``decode_singles`` does,
and take their place among them: a member's predictions stay in log order.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_ensemble import compiled
from stream_ensemble.core.join.records import Predictions
from stream_ensemble.kafka.chunks import Chunk, Columns
from stream_ensemble.kafka.decode import Expected, Read, Refused
from stream_ensemble.kafka.decode_singles import SingleReader
from stream_ensemble.kafka.raw_batches import RawBatch
from stream_ensemble.messages import HEADER_FORMAT, HEADER_FORWARDED, HEADER_TRACE

_HEADERS: Final = (HEADER_FORMAT, HEADER_TRACE, HEADER_FORWARDED)
#: So many odd records are looked at one by one; where there are more, and more than this share, all are read
#: the plain way, which has a middle way for what is unusual but right.
_ODD: Final = 64
_ODD_SHARE: Final = 8


class Taken(NamedTuple):
    """What the records of some chunks came to, and the newest append time (ms) of each chunk, -1 without."""

    reads: list[Read]
    refused: list[Refused]
    newest: list[int]


class CompiledReader:
    """Reads single predictions of one ensemble.

    Args:
        singles: reads what the kernel leaves.
    """

    def __init__(self, expected: Expected, singles: SingleReader) -> None:
        self._expected = expected
        self._singles = singles
        self._of_topic: dict[int, list[int]] = {}
        for member, topic in enumerate(expected.topic_of.tolist()):
            self._of_topic.setdefault(topic, []).append(member)
        names = list(expected.number_of)
        self._kernels = {
            topic: compiled.reading.SingleKernel(
                [names[k] for k in members], np.array(members, np.int64), expected.values, _HEADERS
            )
            for topic, members in self._of_topic.items()
        }

    def read(self, parts: Sequence[tuple[int, Chunk]]) -> Taken | None:
        """What can be used of the records of some input topics, and what is refused.

        None where they are better read the plain way.
        """
        batches = [self._opened(chunk) for _, chunk in parts]
        whole = [part for part in batches if part is not None]
        if len(whole) < len(parts):
            return None
        columns = _Columns(sum(batch.n for part in whole for batch in part), self._expected.values)
        ends = [0]
        for (topic, chunk), part in zip(parts, whole, strict=True):
            if not columns.take(self._kernels[topic], part, chunk):
                return None
            ends.append(columns.row)
        columns.cut()
        newest = [int(columns.appended[a:b].max()) if b > a else -1 for a, b in pairwise(ends)]
        columns.odd |= ~self._expected.domain.are_outputs(columns.outputs)
        if not columns.row:
            return Taken([], [], newest)
        odd = np.flatnonzero(columns.odd)
        if len(odd) > _ODD and len(odd) * _ODD_SHARE > columns.row:
            return None
        records = _Records([chunk for _, chunk in parts])
        rows = columns.predictions()
        refused = []
        if len(odd):
            topics = np.repeat([topic for topic, _ in parts], np.diff(ends))
            refused = self._look_at(odd.tolist(), rows, records, topics)
        if len({topic for topic, _ in parts}) == 1 and len(self._of_topic[parts[0][0]]) == 1:
            rows.member = self._of_topic[parts[0][0]][0]
        if not refused:
            return Taken([Read(rows, records)], [], newest)
        left = np.delete(np.arange(columns.row), [place for place, _ in refused])
        reads = [Read(rows.of(left), _Chosen(records, left.tolist()))] if len(left) else []
        return Taken(reads, [one for _, one in refused], newest)

    def _opened(self, chunk: Chunk) -> list[RawBatch] | None:
        if chunk.raws is None:
            return None
        found = chunk.opened()
        kept = [batch for batch in found if isinstance(batch, RawBatch)]
        return kept if len(kept) == len(found) else None

    def _look_at(
        self, places: list[int], rows: Predictions, records: _Records, topics: NDArray[np.int64]
    ) -> list[tuple[int, Refused]]:
        """Put the records at these places where the kernel left room for them.

        Returns what is refused, with its place.
        """
        picked = Columns([records[place] for place in places], rows.offsets[places], rows.appended[places])
        reads, refused = self._singles.read_carefully(topics[places], picked)
        bad = {id(one.record): one for one in refused}
        dropped = [(p, bad[id(r)]) for p, r in zip(places, picked.records, strict=True) if id(r) in bad]
        gone = {place for place, _ in dropped}
        for read in reads:
            _put(rows, [place for place in places if place not in gone], read.rows)
        return dropped


def _put(rows: Predictions, places: list[int], found: Predictions) -> None:
    """The rows of ``found`` at these places of ``rows``, of which each has a member of its own."""
    rows.member[places] = found.member  # type: ignore[index]
    rows.outputs[places] = found.outputs
    rows.at[places] = found.at
    if found.answers is not None:
        rows.answers = np.zeros(len(rows.ids), np.uint8)
        rows.answers[places] = found.answers
    for place, request_id in zip(places, found.ids, strict=True):
        rows.ids[place] = request_id
    rows.segments |= {places[row]: segment for row, segment in found.segments.items()}
    rows.traces |= {places[row]: trace for row, trace in found.traces.items()}
    rows.forwarded = frozenset(places[row] for row in found.forwarded)


class _Columns:
    """Room for N records; those before ``row`` are there."""

    def __init__(self, n: int, values: int) -> None:
        self.row = 0
        self.offsets, self.appended, self.at, self.members = np.empty((4, n), np.int64)
        self.outputs = np.zeros((n, values))
        self.odd = np.empty(n, np.uint8)
        self.ids: list[bytes] = []
        self.segments: dict[int, str] = {}
        self.traces: dict[int, bytes] = {}

    def take(self, kernel: compiled.reading.SingleKernel, batches: Sequence[RawBatch], chunk: Chunk) -> bool:
        """Add the records of these batches of a chunk; False where the kernel cannot."""
        for batch in batches:
            if not batch.n:
                continue
            try:
                row = kernel.read(
                    batch.records, batch.n, batch.base_offset, batch.base_time, batch.time, chunk.first,
                    self.row, self.offsets, self.appended, self.at, self.members, self.outputs, self.odd,
                    self.ids, self.segments, self.traces,
                )  # fmt: skip
            except ValueError:
                return False
            if row == compiled.reading.COLUMNAR:
                return False
            if row > self.row and self.offsets[row - 1] >= chunk.next_offset:
                return False
            self.row = row
        return True

    def cut(self) -> None:
        """Forget the room that was not needed."""
        for name in ("offsets", "appended", "at", "members", "outputs", "odd"):
            setattr(self, name, getattr(self, name)[: self.row])

    def predictions(self) -> Predictions:
        return Predictions(
            self.members, self.ids, self.outputs, None, self.at, self.appended, self.offsets, None,
            self.segments, frozenset(), self.traces,
        )  # fmt: skip


class _Records:
    """The records of some chunks, made when one is asked for: few ever are."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = chunks
        self._made: list[Any] | None = None

    def __getitem__(self, place: int) -> Any:
        if self._made is None:
            self._made = [record for chunk in self._chunks for run in chunk.runs() for record in run.records]
        return self._made[place]


class _Chosen:
    """Some of them, by place."""

    def __init__(self, records: _Records, places: list[int]) -> None:
        self._records = records
        self._places = places

    def __getitem__(self, place: int) -> Any:
        return self._records[self._places[place]]
