"""What owns partition p of one ensemble in the fuse app: chunk in, fused batches out, offsets released by
acknowledgement.

Everything between the closed check and the hand-over to the producer runs without an await, so a rebalance
can never come between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec
import numpy as np
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.structs import TopicPartition
from numpy.typing import NDArray

from stream_ensemble.core.join.few import add_few
from stream_ensemble.core.join.holding import Holding
from stream_ensemble.core.join.records import (
    Decided,
    Predictions,
    Requests,
    Verdict,
    joined,
    nothing_decided,
)
from stream_ensemble.core.join.shadows import Shadows, as_predictions
from stream_ensemble.core.join.state import JoinRules, PartitionJoin
from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.fuser.beside import Beside
from stream_ensemble.fuser.fusion import Fusion
from stream_ensemble.fuser.held import HeldOffsets
from stream_ensemble.kafka.chunks import Chunk, Columns, EndEvidence, Headers, Row
from stream_ensemble.kafka.decode import Read, Refused, misrouted
from stream_ensemble.kafka.decode_predictions import PredictionReader
from stream_ensemble.kafka.decode_requests import ReadRequests, RequestReader
from stream_ensemble.kafka.encode import FusedFormat
from stream_ensemble.kafka.fenced_producer import PartitionProducer
from stream_ensemble.messages import (
    HEADER_DEAD_LETTER,
    HEADER_FORWARDED,
    HEADER_SOURCE,
    DeadLetter,
    Forwarded,
)

log = logging.getLogger(__name__)

#: So many records or fewer, and no more bytes than they commonly have, are taken one by one: arrays would
#: take longer.
_FEW = 32
_FEW_BYTES = 16 << 10
#: Input topic of a chunk, its newest append time (ms; -1: no records), and the offset behind it.
_End = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where the results of one partition go. ``inputs[t]`` is input topic t; ``feedback`` takes what was said
    in shadow too late for the fused record.
    """

    inputs: tuple[str, ...]
    requests: int | None
    fused: TopicPartition
    late: TopicPartition
    dead_letter: TopicPartition
    feedback: TopicPartition | None = None


@dataclass(slots=True)
class _Leaving:
    """A record on its way to another topic than the fused one, and the input it holds."""

    topic: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class _Moving:
    """A record the join does not use: where it stood, and whether it was moved here once already."""

    topic: int
    record: Any
    request_id: bytes
    origin: Forwarded
    at: int
    forwarded: bool


class FuserPartition:
    """State and effects of one owned partition.

    Args:
        on_failure: called once with the first delivery error; the owner then fences again or drops the
            partition.
        early: whether a request ends as soon as the members still awaited cannot change its answer.
        most_waiting: predictions in shadow held for requests that nobody else has answered yet.
        absent: members (a bit mask) whose topic this process was not given: nobody can wait for them.
    """

    def __init__(
        self,
        rules: JoinRules,
        outlets: Outlets,
        readers: tuple[PredictionReader, RequestReader],
        fusion: Fusion,
        form: FusedFormat,
        producer: PartitionProducer,
        on_failure: Callable[[BaseException], None],
        *,
        early: bool = False,
        most_waiting: int = 100_000,
        absent: int = 0,
    ) -> None:
        self.join = PartitionJoin(rules)
        self.holding = Holding(self.join)
        self.shadows = Shadows(self.join, most_waiting)
        self.outlets = outlets
        self.closed = False
        self._predictions, self._requests = readers
        self._fusion = fusion
        self._form = form
        self._producer = producer
        self._on_failure = on_failure
        self._held = HeldOffsets(len(outlets.inputs))
        self._leaving: dict[TopicPartition, list[_Leaving]] = {}
        self._early = early
        self._partition = outlets.fused.partition
        self._partitions = rules.partitions
        self._absent = absent
        self._beside = Beside(self.join, self.shadows, self._held, outlets.inputs, form)
        self._follow_members()

    # --- members ----------------------------------------------------------------------------------

    def _follow_members(self) -> list[Decided]:
        """Await those who are members by now; returns what ended by that."""
        awaited = self._fusion.awaited
        awaited = awaited & ~self._absent or awaited
        before = int(self.join.everyone)
        if awaited == before:
            return []
        self.shadows.enter(self.join.take_out(before & ~awaited))
        decided = [self.join.await_only(awaited)]
        come = self.shadows.leave(awaited & ~before)
        if come:
            # Into the join, as when it was read.
            read = Read(as_predictions(come, self.join.rules.values), [one.record for one in come])
            decided += self._add(read, max(one.read_at for one in come))
            self._beside.let_go(come)
        return decided

    def _take_beside(
        self, chunks: Sequence[tuple[int, Chunk]], now: float, decided: Sequence[Decided]
    ) -> list[Decided]:
        """Chunks of topics in which somebody in shadow publishes. Returns what ended by the others there."""
        reads, ends = self._read(chunks)
        mine, others = self._beside.apart(reads)
        found = [part for read in others for part in self._add(read, now)]
        for read in mine:
            verdicts = self._beside.take(read, now, (*decided, *found))
            if verdicts.any():
                self._reroute(read, verdicts)
                self._leave(self._beside.late(read, verdicts))
        for end in ends:
            self.join.progress.read(*end)
        return found

    def _give_up_waiting(self) -> None:
        """Predictions in shadow that nobody else answered are late."""
        given = self.shadows.give_up()
        for one in given:
            topic, origin = self.join.rules.topic_of[one.member], self._beside.origin(one)
            moving = _Moving(topic, one.record, one.request_id, origin, one.at, forwarded=True)
            self._send_on(self.outlets.late, moving, (HEADER_SOURCE, origin))
        self._leave(self._beside.trials(given))
        self._beside.let_go(given)

    def _leave(self, trials: Sequence[tuple[int, int, bytes, bytes]]) -> None:
        """Tell the learner what was said too late: input topic, offset, key and value of each record."""
        if self.outlets.feedback is None:
            return
        for topic, offset, key, value in trials:
            self._held.hold(topic, offset)
            leaving = _Leaving(topic, offset, key, value, [])
            self._leaving.setdefault(self.outlets.feedback, []).append(leaving)

    # --- in ---------------------------------------------------------------------------------------

    def process(self, chunks: Sequence[tuple[int, Chunk]], now: float) -> None:
        """Take chunks with the input topic of each; ``now`` is monotonic seconds."""
        if self.closed:
            return
        decided = self._follow_members()
        own = chunks
        if self._beside.topics:
            own = [part for part in chunks if part[0] not in self._beside.topics]
        taken = self._take_few(own, now)
        decided += self._take_many(own, now) if taken is None else taken
        if len(own) < len(chunks):
            beside = [part for part in chunks if part[0] in self._beside.topics]
            decided += self._take_beside(beside, now, decided)
        self._send_aside()
        self._publish(joined([part for part in (*decided, self.join.advance(now)) if len(part)]))

    def _take_few(self, chunks: Sequence[tuple[int, Chunk]], now: float) -> list[Decided] | None:
        """The chunks' records one by one, where they are few and plain; None where they are not."""
        if self._early or sum(chunk.size for _, chunk in chunks) > _FEW_BYTES:
            return None
        if any(topic == self.outlets.requests for topic, _ in chunks):
            return None
        if sum(len(run.records) for _, chunk in chunks for run in chunk.runs()) > _FEW:
            return None
        few = self._predictions.few.read(chunks)
        ended = None if few is None else add_few(self.join, few, now)
        if ended is None:
            return None
        for topic, chunk in chunks:
            self.join.progress.read(topic, chunk.newest(), chunk.next_offset)
        return [ended]

    def _take_many(self, chunks: Sequence[tuple[int, Chunk]], now: float) -> list[Decided]:
        """The chunks' records as columns. Returns what ended."""
        requests: list[tuple[int, Columns]] = []
        predictions = []
        ends = []
        for topic, chunk in chunks:
            if topic != self.outlets.requests:
                predictions.append((topic, chunk))
                continue
            columns = chunk.columns()
            newest = int(columns.appended.max()) if columns.records else -1
            ends.append((topic, newest, chunk.next_offset))
            if columns.records:
                requests.append((topic, columns))
        # Who is expected and by when is known best before the answers are looked at.
        decided = [self._take_requests(topic, columns, now) for topic, columns in requests]
        if predictions:
            reads, more = self._read(predictions)
            decided += [ended for read in reads for ended in self._add(read, now)]
            ends += more
        for end in ends:
            self.join.progress.read(*end)
        return decided

    def _take_requests(self, topic: int, columns: Columns, now: float) -> Decided:
        """Requests records into the join; what cannot be read goes elsewhere. Returns what ended."""
        read, refused = self._requests.read(topic, columns)
        self._dead_letter(refused)
        if read is None:
            return nothing_decided()
        verdicts, ended = self.join.add_requests(read.rows, now)
        if verdicts.any():
            self._reroute_requests(read, verdicts)
        return ended

    def _read(self, chunks: Sequence[tuple[int, Chunk]]) -> tuple[list[Read], list[_End]]:
        """The predictions in some chunks, and where each ends; what cannot be read goes elsewhere."""
        reads, refused, newest = self._predictions.take(chunks)
        self.join.ledger.predictions += len(refused)
        self.join.ledger.dead_lettered += len(refused)
        self._dead_letter(refused)
        ends = [(topic, when, chunk.next_offset) for (topic, chunk), when in zip(chunks, newest, strict=True)]
        return reads, ends

    def _add(self, read: Read, now: float) -> list[Decided]:
        """Members' predictions into the join; what it does not use goes elsewhere. Returns what ended."""
        verdicts, ended, used = self.join.add_predictions(read.rows, now)
        if verdicts.any():
            self._reroute(read, verdicts)
        if self._early and len(used):
            return [ended, self._end_early(used)]
        return [ended]

    def _end_early(self, touched: NDArray[np.int64]) -> Decided:
        open_ones = self.join.answerable(touched)
        if not len(open_ones):
            return nothing_decided()
        return self.join.end_early(open_ones[self._fusion.certain(self.join.slots, open_ones)])

    def tick(self, evidence: Sequence[EndEvidence | None], unreadable: Sequence[bool], now: float) -> None:
        """Look at the newest evidence per input topic and decide what it allows at monotonic ``now`` (s)."""
        if self.closed:
            return
        progress = self.join.progress
        for topic, end in enumerate(evidence):
            progress.topics[topic].unreadable = unreadable[topic]
            if end is not None:
                progress.at_end(topic, end.asked_at, end.offset)
        progress.note_idle(now, self.join.rules.lateness_horizon_ms / 1000)
        decided = self._follow_members()
        if len(self.shadows):
            self._give_up_waiting()
        if self._leaving:
            self._send_aside()
        self._publish(joined([part for part in (*decided, self.join.advance(now)) if len(part)]))

    def waits(self, now: float) -> bool:
        """May :meth:`tick` at monotonic ``now`` (s) lead to anything but newer evidence?"""
        join = self.join
        return bool(self._leaving) or len(self.shadows) > 0 or join.is_due(now) or join.may_time_out()

    def relieve(self, count: int) -> None:
        """Decide the ``count`` oldest open requests, because no more can be held."""
        if not self.closed:
            decided = [*self._follow_members(), self.join.give_up_oldest(count)]
            self._publish(joined([part for part in decided if len(part)]))

    def start_from(self, positions: Sequence[int]) -> None:
        """Reading begins at these offsets, one per input topic."""
        for topic, offset in enumerate(positions):
            self.join.progress.read(topic, -1, offset)

    def committable(self) -> list[int]:
        """By input topic, the offset that may be committed: everything before it has led to something
        acknowledged.
        """
        offsets = []
        joining = self.join.held()
        for topic, progress in enumerate(self.join.progress.topics):
            lowest = [progress.next_offset]
            for held in (joining[topic], self._held.lowest(topic)):
                if held is not None:
                    lowest.append(held)
            offsets.append(min(lowest))
        return offsets

    # --- fused ------------------------------------------------------------------------------------

    def _publish(self, decided: Decided) -> None:
        if not len(decided):
            return
        if len(self.shadows):
            self._beside.let_go(self.shadows.beside(decided))
        encoded = self._fusion.encode(self.join.slots, decided, self._form)
        slots = decided.slots[encoded.order]
        bounds = [0, *encoded.ends.tolist()]
        sent = self._producer.send(self.outlets.fused, encoded.keys, encoded.values, encoded.headers)
        for future, begin, end in sent:
            future.add_done_callback(partial(self._fused_delivered, slots[bounds[begin] : bounds[end]]))

    def _fused_delivered(self, slots: NDArray[np.int64], future: asyncio.Future[Any]) -> None:
        if not self._failed(future):
            self.join.release(slots)

    def _failed(self, future: asyncio.Future[Any]) -> bool:
        error = _error(future)
        if error is None:
            return False
        self.fail(error)
        return True

    def fail(self, error: BaseException) -> None:
        """Something was not delivered: nothing more is taken, and who owns this is told, once."""
        if not self.closed:
            self.closed = True
            self._on_failure(error)

    # --- late, forwarded, dead-letter -------------------------------------------------------------

    def _reroute(self, read: Read, verdicts: NDArray[np.uint8]) -> None:
        """What is late goes to the late topic, what stands in the wrong partition to its own."""
        rows, ledger = read.rows, self.join.ledger
        topic_of = self.join.rules.topic_of
        for place in np.flatnonzero((verdicts == Verdict.LATE) | (verdicts == Verdict.FORWARD)).tolist():
            topic = topic_of[rows.member_of(place)]
            moving = _Moving(
                topic,
                read.records[place],
                rows.ids[place],
                self._origin(topic, rows, place, 0 if rows.rows is None else int(rows.rows[place])),
                int(rows.at[place]),
                place in rows.forwarded,
            )
            if verdicts[place] == Verdict.LATE:
                self._send_on(self.outlets.late, moving, (HEADER_SOURCE, moving.origin))
            elif not self._forward(moving):
                ledger.forwarded -= 1
                ledger.dead_lettered += 1

    def _reroute_requests(self, read: ReadRequests, verdicts: NDArray[np.uint8]) -> None:
        rows = read.rows
        for place in np.flatnonzero(verdicts == Verdict.FORWARD).tolist():
            origin = self._origin(rows.topic, rows, place)
            at, again = int(rows.at[place]), place in rows.forwarded
            self._forward(_Moving(rows.topic, read.records[place], rows.ids[place], origin, at, again))

    def _forward(self, moving: _Moving) -> bool:
        """Send a record to its canonical partition, once; returns whether it was the first time."""
        origin = moving.origin
        if moving.forwarded:
            error = misrouted()
            refused = Refused(moving.record, origin.offset, origin.appended, error, moving.topic, origin.row)
            self._dead_letter([refused])
            return False
        name = self.outlets.inputs[moving.topic]
        target = TopicPartition(name, partition_of(moving.request_id, self._partitions))
        appended = min(moving.at, origin.appended) if moving.at >= 0 else origin.appended
        origin = msgspec.structs.replace(origin, appended=appended)
        self._send_on(target, moving, (HEADER_FORWARDED, origin))
        return True

    def _send_on(self, target: TopicPartition, moving: _Moving, header: tuple[str, Forwarded]) -> None:
        # A row of a columnar record goes on in its form, which has no key.
        key = None if isinstance(moving.record, Row) else moving.request_id
        self._aside(target, moving.topic, moving.origin.offset, moving.record, key, header)

    def _origin(self, topic: int, rows: Predictions | Requests, place: int, row: int = 0) -> Forwarded:
        return Forwarded(
            topic=self.outlets.inputs[topic],
            partition=self._partition,
            offset=int(rows.offsets[place]),
            row=row,
            appended=int(rows.appended[place]),
        )

    def _dead_letter(self, refused: Sequence[Refused]) -> None:
        for item in refused:
            header = DeadLetter(
                reason=item.error.reason,
                detail=item.error.detail,
                topic=self.outlets.inputs[item.topic],
                partition=self._partition,
                offset=item.offset,
                row=item.row,
                appended=item.appended,
            )
            self._aside(
                self.outlets.dead_letter,
                item.topic,
                item.offset,
                item.record,
                item.record.key,
                (HEADER_DEAD_LETTER, header),
            )

    def _aside(
        self,
        target: TopicPartition,
        topic: int,
        offset: int,
        record: Any,
        key: bytes | None,
        header: tuple[str, msgspec.Struct],
    ) -> None:
        """Publish a record unchanged elsewhere at the end of this chunk; its offset is held until then."""
        headers = [*record.headers, (header[0], msgspec.json.encode(header[1]))]
        self._held.hold(topic, offset)
        self._leaving.setdefault(target, []).append(_Leaving(topic, offset, key, record.value, headers))

    def _send_aside(self) -> None:
        leaving, self._leaving = self._leaving, {}
        for target, records in leaving.items():
            self._send_leaving(target, records)

    def _send_leaving(self, target: TopicPartition, records: Sequence[_Leaving]) -> None:
        keys, values = [r.key for r in records], [r.value for r in records]
        for future, begin, end in self._producer.send(target, keys, values, [r.headers for r in records]):
            future.add_done_callback(partial(self._aside_delivered, target, records[begin:end]))

    def _aside_delivered(
        self, target: TopicPartition, records: Sequence[_Leaving], future: asyncio.Future[Any]
    ) -> None:
        if _too_large(future) and target == self.outlets.dead_letter and records[0].value is not None:
            # With the headers it does not fit any more; they say where the original stands.
            self._send_leaving(target, [replace(record, value=None) for record in records])
        elif target == self.outlets.feedback and _error(future) is not None:
            # A score less, for the late topic has it; no reason to keep answers waiting.
            log.warning("%d late predictions in shadow are not scored: %r", len(records), _error(future))
            self._release(records)
        elif not self._failed(future):
            self._release(records)

    def _release(self, records: Sequence[_Leaving]) -> None:
        for record in records:
            self._held.release(record.topic, record.offset)


def _error(future: asyncio.Future[Any]) -> BaseException | None:
    return asyncio.CancelledError() if future.cancelled() else future.exception()


def _too_large(future: asyncio.Future[Any]) -> bool:
    return not future.cancelled() and isinstance(future.exception(), MessageSizeTooLargeError)
