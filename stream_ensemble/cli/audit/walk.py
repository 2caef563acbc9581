"""Reads an ensemble's topics, partition by partition, and judges each: what an audit does."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka.structs import TopicPartition
from numpy.typing import NDArray

from stream_ensemble import config
from stream_ensemble.cli.audit import decoding, labels, moved, requests, rows
from stream_ensemble.cli.audit.decoding import Read
from stream_ensemble.cli.audit.rows import hashes, place, table
from stream_ensemble.cli.audit.span import Spans, Topics
from stream_ensemble.cli.audit.spill import Buckets
from stream_ensemble.cli.audit.tally import Offence, Tally
from stream_ensemble.cli.audit.terms import SilenceFinder, Terms
from stream_ensemble.core.join.records import NO_TIME
from stream_ensemble.core.partitioning import partitions_of
from stream_ensemble.core.tasks.choose import domain_of
from stream_ensemble.kafka.tail import LogReader

Chunk = list[tuple[Any, int, int]]


@dataclass(frozen=True, slots=True)
class Window:
    """Append times (ms) between which a request's first record stands; None: no bound."""

    since: int | None = None
    until: int | None = None

    def holds(self, times: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of N times lie between."""
        inside = np.ones(len(times), np.bool_)
        if self.since is not None:
            inside &= times >= self.since
        if self.until is not None:
            inside &= times < self.until
        return inside


class Audit:
    """One audit of one ensemble.

    Args:
        reader: reads committed records.
        spans: what to read.
        folder: for temporary files, of one partition at a time; ``rows.py`` has the sizes.
        tolerance_ms: how far brokers' clocks may differ.
    """

    def __init__(
        self,
        reader: LogReader,
        ensemble: config.Ensemble,
        topics: Topics,
        spans: Spans,
        window: Window,
        folder: Path,
        *,
        tolerance_ms: int,
    ) -> None:
        self._reader = reader
        self._ensemble = ensemble
        self._topics = topics
        self._spans = spans
        self._window = window
        self._folder = folder
        self._tolerance_ms = tolerance_ms
        self._members = {name: number for number, name in enumerate(config.everyone(ensemble))}
        self._dead: dict[TopicPartition, NDArray[np.uint64]] = {}
        self._moved = Buckets(_made(folder / "moved"), {"moved": rows.MOVED})
        self.parts = domain_of(ensemble.task).parts
        self.reasons: Counter[str] = Counter()

    async def run(self) -> AsyncIterator[tuple[int, Tally]]:
        """The tally of each partition as it is done, and at last, as partition -1, that of the forwarded."""
        await self._read_dead_letters()
        for partition in range(self._ensemble.partitions):
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                yield partition, await self._partition(partition, Path(folder))
        forwarded = Tally()
        for bucket in self._moved.all():
            forwarded.add(moved.judge(bucket["moved"]))
        yield -1, forwarded

    async def _partition(self, partition: int, folder: Path) -> Tally:
        one = _Partition(self, partition, Buckets(folder, rows.TABLES))
        return await one.run()

    async def _read_dead_letters(self) -> None:
        places: dict[TopicPartition, list[int]] = {}
        for partition in range(self._topics.dead_partitions):
            async for chunk in self.chunks(TopicPartition(self._topics.names.dead_letter, partition)):
                for record, _, _ in chunk:
                    said = decoding.dead_origin(record)
                    if said is None:
                        continue
                    self.reasons[said.reason] += 1
                    number = self._topics.number(said.topic)
                    tp = TopicPartition(said.topic, said.partition)
                    places.setdefault(tp, []).append(place(number, said.offset, said.row))
        self._dead = {tp: np.unique(np.array(some, np.uint64)) for tp, some in places.items()}

    async def chunks(self, tp: TopicPartition) -> AsyncIterator[Chunk]:
        """The records to read of a topic partition: each with its offset and append time."""
        span = self._spans[tp]
        async for columns in self._reader.read(tp, span.start, span.end):
            yield list(zip(columns.records, columns.offsets.tolist(), columns.appended.tolist(), strict=True))

    def dead(self, tp: TopicPartition, places: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of N places of a topic partition are in the dead-letter topic."""
        return np.isin(places, self._dead.get(tp, np.empty(0, np.uint64)))


class _Partition:
    """The audit of one partition."""

    def __init__(self, audit: Audit, partition: int, buckets: Buckets) -> None:
        self._audit = audit
        self._partition = partition
        self._buckets = buckets
        self._tally = Tally()
        self._newest = 0
        self._fused_begins: int | None = None
        self._silences = {number: SilenceFinder(self._silent_ms // 2) for number in audit._members.values()}

    @property
    def _silent_ms(self) -> int:
        return config.silence_after_ms(self._audit._ensemble)

    async def run(self) -> Tally:
        names = self._audit._topics.names
        await self._read_fused(self._tp(names.fused))
        await self._read_late(self._tp(names.late))
        for topic in dict.fromkeys(names.predictions):
            await self._read_predictions(self._tp(topic))
        if names.requests:
            await self._read_requests(self._tp(names.requests))
        await self._read_feedback(self._tp(names.feedback))
        n, generation = await self._learned(self._tp(names.weights))
        await self._read_applied(self._tp(names.applied))
        terms = self._terms()
        for bucket in self._buckets.all():
            self._tally.add(requests.judge(bucket, terms))
            self._tally.add(labels.judge(bucket, self._partition, generation))
        labels.count_offence(self._tally, self._partition, n)
        return self._tally

    def _tp(self, topic: str) -> TopicPartition:
        return TopicPartition(topic, self._partition)

    def _terms(self) -> Terms:
        audit, names = self._audit, self._audit._topics.names
        spans = [audit._spans[self._tp(topic)] for topic in audit._topics.inputs]
        fused = audit._spans[self._tp(names.fused)]
        window = audit._window
        cut = fused.first > 0 and window.since is None
        return Terms(
            partition=self._partition,
            deadline_ms=audit._ensemble.deadline_ms,
            silence_after_ms=self._silent_ms,
            tolerance_ms=audit._tolerance_ms,
            since=window.since,
            until=window.until,
            firsts=tuple(span.start for span in spans),
            whole=all(span.start == 0 for span in (*spans, fused)),
            fused_begins=(self._fused_begins or self._newest + 1) if cut else None,
            newest=self._newest,
            silences={number: finder.silences() for number, finder in self._silences.items()},
            shadows=frozenset(audit._members[name] for name in audit._ensemble.shadows),
        )

    async def _read_fused(self, tp: TopicPartition) -> None:
        audit = self._audit
        config_digest = config.decision_digest(audit._ensemble)
        async for chunk in audit.chunks(tp):
            read = decoding.read_fused(chunk)
            if self._fused_begins is None and read.appended:
                self._fused_begins = read.appended[0]
            self._buckets.add("fused", decoding.fused_rows(read, audit._members, config_digest))
            components = decoding.component_rows(read, audit._members, audit._topics.inputs, self._partition)
            self._buckets.add("components", components)
            self._tally.counts["fused-unreadable"] += len(read.unreadable)

    async def _read_late(self, tp: TopicPartition) -> None:
        async for chunk in self._audit.chunks(tp):
            self._buckets.add("late", decoding.late_rows(chunk, self._audit._topics.inputs, self._partition))

    async def _read_predictions(self, tp: TopicPartition) -> None:
        audit = self._audit
        names = audit._topics.names
        async for chunk in audit.chunks(tp):
            read = decoding.read_predictions(chunk, audit._members, tp.topic, names.predictions)
            it = self._sorted_out(tp, read, "predictions")
            own = it.own
            said = [read.messages[row] for row in own.tolist()]
            member = np.array([each.member for each in said])
            for number in np.unique(member).tolist():
                self._silences[number].see(it.appended[own][member == number])
            made = table(
                rows.PREDICTION,
                hashes([read.ids[row] for row in own.tolist()]),
                place=it.places[own],
                appended=it.appended[own],
                outputs=np.array([each.outputs for each in said], np.uint64),
                member=member,
                answer=[each.answer for each in said],
                beyond=self._beyond(read, own),
                dead=it.dead[own],
                decided=it.decided[own],
            )
            self._buckets.add("predictions", made)

    def _beyond(self, read: Read, own: NDArray[np.int64]) -> list[bool]:
        """Which were appended more than the lateness horizon after their requests were made."""
        horizon_ms = self._audit._ensemble.lateness_horizon_s * 1000
        beyond = []
        for row in own.tolist():
            at = read.messages[row].at
            origin = read.forwarded.get(row)
            if at == NO_TIME and origin is not None:
                at = origin.appended
            beyond.append(at != NO_TIME and read.appended[row] - at > horizon_ms)
        return beyond

    async def _read_requests(self, tp: TopicPartition) -> None:
        async for chunk in self._audit.chunks(tp):
            read = decoding.read_requests(chunk)
            it = self._sorted_out(tp, read, "requests-records")
            own = it.own
            made = table(
                rows.REQUEST,
                hashes([read.ids[row] for row in own.tolist()]),
                place=it.places[own],
                appended=it.appended[own],
                deadline_ms=[read.messages[row].deadline_ms or 0 for row in own.tolist()],
                dead=it.dead[own],
                decided=it.decided[own],
            )
            self._buckets.add("requests", made)

    async def _read_feedback(self, tp: TopicPartition) -> None:
        number = self._audit._topics.number(tp.topic)
        async for chunk in self._audit.chunks(tp):
            read = decoding.read_feedback(chunk, of_parts=bool(self._audit.parts))
            it = self._sorted_out(tp, read, "labels")
            own = it.own
            origins, partitions = it.places.copy(), np.full(len(it.places), self._partition)
            for row, origin in read.forwarded.items():
                origins[row] = place(number, origin.offset, origin.row)
                partitions[row] = origin.partition
                it.appended[row] = origin.appended
                origin_tp = TopicPartition(origin.topic, origin.partition)
                it.dead[row] |= self._audit.dead(origin_tp, origins[row : row + 1])[0]
            made = table(
                rows.FEEDBACK,
                hashes([read.ids[row] for row in own.tolist()]),
                part=rows.part_hashes([self._part(read.messages[row]) for row in own.tolist()]),
                place=it.places[own],
                origin=origins[own],
                partition=partitions[own],
                appended=it.appended[own],
                revision=[read.messages[row].revision for row in own.tolist()],
                dead=it.dead[own],
                decided=it.decided[own],
            )
            self._buckets.add("feedback", made)

    def _part(self, label: Any) -> str | None:
        """Name of the part a label is about; it may say its number."""
        parts = self._audit.parts
        if not parts:
            return None
        said = label.part
        return str(parts[said] if isinstance(said, int) and said < len(parts) else said)

    async def _read_applied(self, tp: TopicPartition) -> None:
        names = self._audit._topics.names
        number = self._audit._topics.number(names.feedback)
        async for chunk in self._audit.chunks(tp):
            self._buckets.add("applied", decoding.applied_rows(chunk, names.feedback, number))

    async def _learned(self, tp: TopicPartition) -> tuple[int | None, int]:
        """n and generation of the newest contribution to the whole."""
        n, generation = None, 0
        async for chunk in self._audit.chunks(tp):
            for record, _, _ in chunk:
                weights = decoding.weights_of(record.value)
                if weights is not None and weights.segment is None:
                    n, generation = weights.n, weights.generation
        return n, generation

    def _sorted_out(self, tp: TopicPartition, read: Read, name: str) -> _Sorted:
        """Look at each row by itself; rows of other partitions must have been forwarded."""
        audit, number = self._audit, self._audit._topics.number(tp.topic)
        places = read.places(number)
        appended = np.array(read.appended, np.int64)
        self._newest = max(self._newest, int(appended.max(initial=0)))
        dead = audit.dead(tp, places)
        decided = np.array(read.offsets, np.int64) < audit._spans[tp].committed
        self._check_unreadable(tp, read, name)
        for row, origin in read.forwarded.items():
            first = place(audit._topics.number(origin.topic), origin.offset, origin.row)
            self._move(read, [row], place=first, partition=origin.partition, copy=True)
        own = np.ones(0, np.bool_)
        if read.ids:
            own = partitions_of(read.ids, audit._ensemble.partitions) == self._partition
        away = ~own & audit._window.holds(appended)
        self._count(name, "dead-lettered", int((away & dead).sum()))
        self._count(name, "held", int((away & ~dead & ~decided).sum()))
        left = np.flatnonzero(away & ~dead & decided)
        self._count(name, "forwarded", len(left))
        self._move(read, left.tolist(), place=places[left], partition=self._partition)
        return _Sorted(places, appended, dead, decided, np.flatnonzero(own))

    def _check_unreadable(self, tp: TopicPartition, read: Read, name: str) -> None:
        """What cannot be read has no id: its place alone must be in the dead-letter topic."""
        audit, number = self._audit, self._audit._topics.number(tp.topic)
        times = np.array([appended for *_, appended in read.unreadable], np.int64)
        places = np.array([place(number, *at) for *at, _ in read.unreadable], np.uint64)
        places = places[audit._window.holds(times)]
        dead = audit.dead(tp, places)
        held = ~dead & (places >= np.uint64(place(number, audit._spans[tp].committed)))
        lost = places[~dead & ~held]
        self._count(name, "dead-lettered", int(dead.sum()))
        self._count(name, "held", int(held.sum()))
        self._count(name, "unaccounted", len(lost))
        self._tally.accuse(Offence.UNREADABLE_LOST, self._partition, lost)

    def _count(self, name: str, fate: str, count: int) -> None:
        self._tally.counts[name] += count
        self._tally.counts[fate if name == "predictions" else f"{name}-{fate}"] += count

    def _move(self, read: Read, some: Sequence[int], **columns: Any) -> None:
        ids = hashes([read.ids[row] for row in some])
        self._audit._moved.add("moved", table(rows.MOVED, ids, **columns))


@dataclass(frozen=True, slots=True)
class _Sorted:
    """N rows of an input: where each stands, and the numbers of this partition's ``own``."""

    places: NDArray[np.uint64]
    appended: NDArray[np.int64]
    dead: NDArray[np.bool_]
    decided: NDArray[np.bool_]
    own: NDArray[np.int64]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
