"""The join of one partition: predictions and requests in, ended requests out.

A functional core: no clock, no I/O. Time comes in as arguments; ``now`` is monotonic seconds of the process
that reads,
append times are the broker's milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.join.closed_index import ClosedIndex
from stream_ensemble.core.join.ledger import Ledger
from stream_ensemble.core.join.progress import Progress
from stream_ensemble.core.join.records import (
    NO_TIME,
    Answer,
    Cause,
    Decided,
    Predictions,
    Requests,
    Status,
    Verdict,
    joined,
    nothing_decided,
)
from stream_ensemble.core.join.slots import DECIDED, OPEN, RELEASED, Slots
from stream_ensemble.core.partitioning import partitions_of


@dataclass(frozen=True, slots=True)
class JoinRules:
    """What decides when a request ends. Durations in ms; ``topic_of[k]`` is member k's input topic."""

    members: int
    values: int
    topic_of: tuple[int, ...]
    topics: int
    partition: int
    partitions: int
    deadline_ms: int
    quorum: int
    has_prior: bool
    silence_after_ms: int
    lateness_horizon_ms: int


class PartitionJoin:
    """State of one partition of one ensemble."""

    def __init__(self, rules: JoinRules) -> None:
        self.rules = rules
        self.slots = Slots(rules.members, rules.values)
        self.closed = ClosedIndex()
        self.ledger = Ledger()
        self.progress = Progress(rules.topics, list(rules.topic_of), rules.silence_after_ms / 1000)
        self.open_requests = 0
        self._everyone = np.uint64((1 << rules.members) - 1)
        #: Offsets in the tail of the fused topic: predictions used before a restart, by topic.
        self.used_before: dict[int, set[int]] = {}
        #: Lower bounds of the dues of all open requests: nothing can time out before.
        self._next_appended = np.iinfo(np.int64).max
        self._next_monotonic = float("inf")
        #: How many answered requests may wait behind the oldest open one before the ring is cut again.
        self._cut_at = self.slots.capacity // 2

    # --- records in -------------------------------------------------------------------------------

    def add_predictions(self, chunk: Predictions, now: float) -> tuple[NDArray[np.uint8], Decided]:
        """Take N predictions of one member.

        Returns the verdict per row (shape N) and the requests that ended.
        """
        n = len(chunk.ids)
        ledger, slots = self.ledger, self.slots
        ledger.predictions += n
        self.progress.heard(chunk.member)
        at = np.where(chunk.at == NO_TIME, chunk.appended, np.minimum(chunk.at, chunk.appended))
        verdicts = np.zeros(n, np.uint8)
        numbers = self._open(chunk, at, verdicts, now)
        rows = slots.row(numbers)
        usable = verdicts == Verdict.USED
        bit = np.uint64(1 << chunk.member)
        usable = self._refuse_repeats(rows, usable, bit, chunk, verdicts)
        whole = bool(usable.all())
        use = rows if whole else rows[usable]
        if len(use):
            self._store(chunk, use, None if whole else usable, bit)
        self._count(verdicts)
        ledger.held += len(use)
        if chunk.segments:
            for place, segment in chunk.segments.items():
                if usable[place]:
                    slots.segment_of.setdefault(int(numbers[place]), segment)
        for place, trace in chunk.traces.items():
            if usable[place]:
                slots.trace_of.setdefault(int(numbers[place]), trace)
        answered_all = (slots.answered[use] & slots.expected[use]) == slots.expected[use]
        if not len(use) or not answered_all.any():
            return verdicts, nothing_decided()
        return verdicts, self._complete((numbers if whole else numbers[usable])[answered_all])

    def add_requests(self, chunk: Requests, now: float) -> tuple[NDArray[np.uint8], Decided]:
        """Take N requests records.

        Returns the verdict per row (LATE: it came after the end) and the requests that ended.
        """
        slots = self.slots
        at = np.where(chunk.at == NO_TIME, chunk.appended, np.minimum(chunk.at, chunk.appended))
        verdicts = np.zeros(len(chunk.ids), np.uint8)
        numbers = self._open(chunk, at, verdicts, now)
        rows = slots.row(numbers)
        ended = (verdicts == Verdict.USED) & (slots.state[rows] != OPEN)
        verdicts[ended] = Verdict.LATE
        column = self.rules.members
        use = np.flatnonzero(verdicts == Verdict.USED)
        self.ledger.late_requests += int((verdicts == Verdict.LATE).sum())
        for place in use.tolist():
            row = int(rows[place])
            if slots.offsets[row, column] >= 0:
                continue
            slots.offsets[row, column] = chunk.offsets[place]
            self._amend(chunk, place, row, int(numbers[place]))
        done = use[(slots.answered[rows[use]] & slots.expected[rows[use]]) == slots.expected[rows[use]]]
        done = done[slots.state[rows[done]] == OPEN]
        return verdicts, self._complete(np.unique(numbers[done])) if len(done) else nothing_decided()

    def _amend(self, chunk: Requests, place: int, row: int, slot: int) -> None:
        slots = self.slots
        if chunk.expected[place]:
            slots.expected[row] = chunk.expected[place] & self._everyone
        if chunk.at[place] != NO_TIME:
            slots.at[row] = min(int(chunk.at[place]), int(chunk.appended[place]))
        if place in chunk.segments:
            slots.segment_of[slot] = chunk.segments[place]
        if place in chunk.traces:
            slots.trace_of.setdefault(slot, chunk.traces[place])
        wait = int(chunk.deadline_ms[place])
        if wait:
            slots.due_appended[row] = slots.first_appended[row] + wait
            slots.due_monotonic[row] = slots.first_read[row] + wait / 1000
            self._next_appended = min(self._next_appended, int(slots.due_appended[row]))
            self._next_monotonic = min(self._next_monotonic, float(slots.due_monotonic[row]))

    def _open(
        self, chunk: Predictions | Requests, at: NDArray[np.int64], verdicts: NDArray[np.uint8], now: float
    ) -> NDArray[np.int64]:
        """Slot of every row, opening requests for ids not seen; what may not open gets its verdict.

        Shape: N.
        """
        slots = self.slots
        high = slots.high
        numbers = slots.slots_for(chunk.ids)
        fresh = np.flatnonzero(numbers >= high)
        late = chunk.appended - at > self.rules.lateness_horizon_ms
        if late.any():
            verdicts[late] = Verdict.LATE
        if not len(fresh):
            return numbers
        top = int(numbers[fresh].max()) + 1
        slots.cover(top)
        first = fresh
        some_late = bool(late[fresh].any())
        if some_late:
            fresh = self._void_late(chunk, numbers, fresh, late)
        if some_late or len(fresh) != top - high:
            first = fresh[np.unique(numbers[fresh], return_index=True)[1]]
        if not len(first):
            return numbers
        ids = [chunk.ids[i] for i in first.tolist()] if len(first) < len(numbers) else chunk.ids
        refused = self._may_not_open(ids, first, verdicts)
        rows = slots.row(numbers[first])
        if refused.any():
            self._refuse(chunk, numbers, first, refused, verdicts)
            keep = refused == Verdict.USED
            first, rows = first[keep], rows[keep]
            ids = [i for i, kept in zip(ids, keep.tolist(), strict=True) if kept]
        if len(first):
            self._start(ids, rows, at[first], chunk.appended[first], now)
        return numbers

    def _void_late(
        self,
        chunk: Predictions | Requests,
        numbers: NDArray[np.int64],
        fresh: NDArray[np.intp],
        late: NDArray[np.bool_],
    ) -> NDArray[np.intp]:
        """Of the rows with an id not seen before, those that may open it; ids only seen late are voided."""
        may = fresh[~late[fresh]]
        for place in fresh[late[fresh] & ~np.isin(numbers[fresh], numbers[may])].tolist():
            self._void(chunk.ids[place], numbers[place : place + 1])
        return may

    def _void(self, request_id: bytes, number: NDArray[np.int64]) -> None:
        slots = self.slots
        slots.forget([request_id], number)
        row = int(number[0]) & slots.mask
        slots.ids[row] = None
        slots.answered[row] = slots.awake[row] = 0
        slots.offsets[row] = -1

    def _may_not_open(
        self, ids: list[bytes], first: NDArray[np.int64], verdicts: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        refused = verdicts[first].copy()
        refused[self.closed.contains(ids)] = Verdict.LATE
        refused[partitions_of(ids, self.rules.partitions) != self.rules.partition] = Verdict.FORWARD
        return refused

    def _refuse(
        self,
        chunk: Predictions | Requests,
        numbers: NDArray[np.int64],
        first: NDArray[np.int64],
        refused: NDArray[np.uint8],
        verdicts: NDArray[np.uint8],
    ) -> None:
        """Void the slots of ids that may not open and give all their rows the verdict."""
        for place, verdict in zip(
            first[refused != Verdict.USED].tolist(), refused[refused != 0].tolist(), strict=True
        ):
            same = numbers == numbers[place]
            verdicts[same] = np.where(verdicts[same] == Verdict.USED, verdict, verdicts[same])
            self._void(chunk.ids[place], numbers[place : place + 1])

    def _start(
        self,
        ids: list[bytes],
        rows: NDArray[np.int64],
        at: NDArray[np.int64],
        appended: NDArray[np.int64],
        now: float,
    ) -> None:
        slots, wait = self.slots, self.rules.deadline_ms
        slots.state[rows] = OPEN
        slots.ids[rows] = np.array(ids, np.object_)
        slots.outputs[rows] = 0.0
        slots.offsets[rows] = -1
        slots.answered[rows] = 0
        slots.awake[rows] = 0
        slots.abstained[rows] = 0
        slots.early[rows] = False
        slots.expected[rows] = self._everyone
        slots.at[rows] = at
        slots.first_appended[rows] = appended
        slots.first_read[rows] = now
        slots.due_appended[rows] = appended + wait
        slots.due_monotonic[rows] = now + wait / 1000
        self._next_appended = min(self._next_appended, int(appended.min()) + wait)
        self._next_monotonic = min(self._next_monotonic, now + wait / 1000)
        self.progress.expecting(now)
        self.ledger.requests += len(ids)
        self.open_requests += len(ids)

    def _refuse_repeats(
        self,
        rows: NDArray[np.int64],
        usable: NDArray[np.bool_],
        bit: np.uint64,
        chunk: Predictions,
        verdicts: NDArray[np.uint8],
    ) -> NDArray[np.bool_]:
        """Duplicates and predictions of ended requests get their verdict; returns what is left to use.

        Shape: N.
        """
        slots = self.slots
        n = len(rows)
        order = np.arange(n)
        candidates = np.flatnonzero(usable)[::-1]
        slots.seen_at[rows[candidates]] = candidates
        plain = (
            (slots.state[rows] == OPEN) & (slots.answered[rows] & bit == 0) & (slots.seen_at[rows] == order)
        )
        if plain.all() and usable.all():
            return usable
        odd = usable & ~plain
        again = odd & (
            (slots.answered[rows] & bit != 0) | ((slots.state[rows] == OPEN) & (slots.seen_at[rows] != order))
        )
        verdicts[again] = Verdict.DUPLICATE
        ended = odd & ~again
        verdicts[ended] = np.where(slots.early[rows[ended]], Verdict.UNNEEDED, Verdict.LATE)
        self._note_conflicts(np.flatnonzero(again), rows, chunk)
        used = self.used_before.get(chunk.topic)
        if used:
            replayed = np.fromiter((o in used for o in chunk.offsets.tolist()), np.bool_, n)
            verdicts[replayed & (verdicts == Verdict.LATE)] = Verdict.REPLAYED
        left: NDArray[np.bool_] = usable & plain
        return left

    def _note_conflicts(self, again: NDArray[np.int64], rows: NDArray[np.int64], chunk: Predictions) -> None:
        if len(again):
            first = self.slots.outputs[rows[again], chunk.member]
            self.ledger.conflicting += int((first != chunk.outputs[again]).any(axis=1).sum())

    def _store(
        self, chunk: Predictions, use: NDArray[np.int64], usable: NDArray[np.bool_] | None, bit: np.uint64
    ) -> None:
        slots, member = self.slots, chunk.member
        outputs, offsets, answers = chunk.outputs, chunk.offsets, chunk.answers
        if usable is not None:
            outputs, offsets = outputs[usable], offsets[usable]
            answers = None if answers is None else answers[usable]
        slots.outputs[use, member] = outputs
        slots.offsets[use, member] = offsets
        slots.answered[use] |= bit
        if answers is None:
            slots.awake[use] |= bit
        else:
            slots.awake[use[answers == Answer.OUTPUT]] |= bit
            slots.abstained[use[answers == Answer.ABSTAIN]] |= bit

    def _count(self, verdicts: NDArray[np.uint8]) -> None:
        if not verdicts.any():
            return
        ledger = self.ledger
        ledger.late += int((verdicts == Verdict.LATE).sum())
        ledger.unneeded += int((verdicts == Verdict.UNNEEDED).sum())
        ledger.duplicate += int((verdicts == Verdict.DUPLICATE).sum())
        ledger.forwarded += int((verdicts == Verdict.FORWARD).sum())
        replayed = int((verdicts == Verdict.REPLAYED).sum())
        ledger.replayed += replayed
        ledger.predictions -= replayed

    # --- time -------------------------------------------------------------------------------------

    def advance(self) -> Decided:
        """Decide every open request whose missing members may be given up by the evidence in ``progress``."""
        if not self.open_requests or not self._may_time_out():
            return nothing_decided()
        slots = self.slots
        live = slots.range()
        live = live[slots.state[slots.row(live)] == OPEN]
        rows = slots.row(live)
        waiting = slots.expected[rows] & ~slots.answered[rows]
        given = np.zeros(len(rows), np.uint64)
        silent = np.uint64(0)
        unreadable = np.uint64(0)
        progress = self.progress
        for member in range(self.rules.members):
            bit = np.uint64(1 << member)
            gone = progress.given_up(member, slots.due_appended[rows], slots.due_monotonic[rows])
            given[gone] |= bit
            if progress.silent[member]:
                silent |= bit
            if progress.topics[progress.topic_of[member]].unreadable:
                unreadable |= bit
        self._look_again(rows, progress)
        timed_out = (waiting & ~given) == 0
        enough = np.bitwise_count(slots.awake[rows]) >= self.rules.quorum
        quiet = ~timed_out & enough & ((waiting & ~given & ~silent) == 0)
        parts = []
        if timed_out.any():
            cause = np.where(waiting[timed_out] & unreadable != 0, Cause.UNREADABLE, Cause.DEADLINE).astype(
                np.uint8
            )
            self._note_missed(waiting[timed_out])
            parts.append(self._incomplete(live[timed_out], cause))
        if quiet.any():
            parts.append(self._incomplete(live[quiet], np.full(int(quiet.sum()), Cause.SILENT, np.uint8)))
        return joined(parts)

    def give_up_oldest(self, count: int) -> Decided:
        """Decide the ``count`` oldest open requests now, cause "capacity": memory is bounded before answers
        are whole.
        """
        slots = self.slots
        live = slots.range()
        live = live[slots.state[slots.row(live)] == OPEN][:count]
        if not len(live):
            return nothing_decided()
        return self._incomplete(live, np.full(len(live), Cause.CAPACITY, np.uint8))

    def _may_time_out(self) -> bool:
        progress = self.progress
        if progress.silent.any():
            return True
        return any(
            topic.unreadable
            or topic.log_time >= self._next_appended
            or topic.end_asked_at >= self._next_monotonic
            for topic in progress.topics
        )

    def _look_again(self, rows: NDArray[np.int64], progress: Progress) -> None:
        """Raise the lower bounds to the least due that the evidence has not reached yet, per kind of
        evidence.
        """
        slots = self.slots
        reached = max(topic.log_time for topic in progress.topics)
        asked = max(topic.end_asked_at for topic in progress.topics)
        later = slots.due_appended[rows]
        later = later[later > reached]
        self._next_appended = int(later.min()) if len(later) else np.iinfo(np.int64).max
        after = slots.due_monotonic[rows]
        after = after[after > asked]
        self._next_monotonic = float(after.min()) if len(after) else float("inf")
        if len(later) < len(rows) or len(after) < len(rows):
            # Some topic has passed a due that another has not: any progress may decide, so look each time.
            self._next_appended = min(self._next_appended, int(slots.due_appended[rows].min()))
            self._next_monotonic = min(self._next_monotonic, float(slots.due_monotonic[rows].min()))

    def _note_missed(self, waiting: NDArray[np.uint64]) -> None:
        for member in range(self.rules.members):
            times = int((waiting & np.uint64(1 << member) != 0).sum())
            if times:
                self.progress.missed(member, times)

    # --- ends -------------------------------------------------------------------------------------

    def _complete(self, ended: NDArray[np.int64]) -> Decided:
        """Every expected member answered: complete, or below the quorum of outputs a fallback."""
        rows = self.slots.row(ended)
        enough = np.bitwise_count(self.slots.awake[rows]) >= self.rules.quorum
        below = Status.FALLBACK if self.rules.has_prior else Status.EXPIRED
        status = np.where(enough, Status.COMPLETE, below).astype(np.uint8)
        cause = np.where(enough, Cause.NONE, Cause.QUORUM).astype(np.uint8)
        return self._end(ended, rows, status, cause)

    def _incomplete(self, ended: NDArray[np.int64], cause: NDArray[np.uint8]) -> Decided:
        rows = self.slots.row(ended)
        enough = np.bitwise_count(self.slots.awake[rows]) >= self.rules.quorum
        below = Status.FALLBACK if self.rules.has_prior else Status.EXPIRED
        status = np.where(enough, Status.PARTIAL, below).astype(np.uint8)
        return self._end(ended, rows, status, cause)

    def _end(
        self,
        ended: NDArray[np.int64],
        rows: NDArray[np.int64],
        status: NDArray[np.uint8],
        cause: NDArray[np.uint8],
    ) -> Decided:
        slots, ledger = self.slots, self.ledger
        slots.state[rows] = DECIDED
        slots.early[rows] = cause == Cause.EARLY
        answers = int(np.bitwise_count(slots.answered[rows]).sum())
        ledger.held -= answers
        ledger.used += answers
        counts = np.bincount(status, minlength=4).tolist()
        ledger.complete += counts[Status.COMPLETE]
        ledger.partial += counts[Status.PARTIAL]
        ledger.fallback += counts[Status.FALLBACK]
        ledger.expired += counts[Status.EXPIRED]
        self.open_requests -= len(ended)
        return Decided(ended, status, cause)

    # --- offsets ----------------------------------------------------------------------------------

    def release(self, ended: NDArray[np.int64]) -> None:
        """The fused records of these slots are acknowledged: their inputs' offsets are free."""
        slots = self.slots
        slots.state[slots.row(ended)] = RELEASED
        if slots.high - slots.low >= self._cut_at:
            self._cut()

    def _cut(self) -> None:
        slots = self.slots
        upto = slots.released_prefix()
        if upto > slots.low:
            rows = slots.row(np.arange(slots.low, upto))
            newest = int(slots.first_appended[rows].max())
            self.closed.add(slots.cut(upto), max(newest, self.progress.oldest_log_time()))
            horizon = self.progress.oldest_log_time() - 2 * self.rules.lateness_horizon_ms
            self.closed.expire(horizon)
        # Wait until as much again has come, so that a stuck front is not scanned for each release.
        self._cut_at = (slots.high - slots.low) + slots.capacity // 4

    def held_from(self, topic: int) -> int | None:
        """The lowest offset of input topic ``topic`` that an unreleased request still needs; None when none
        does.
        """
        slots = self.slots
        live = slots.range()
        rows = slots.row(live)
        state = slots.state[rows]
        rows = rows[(state == OPEN) | (state == DECIDED)]
        if not len(rows):
            return None
        columns = [k for k, its_topic in enumerate(self.rules.topic_of) if its_topic == topic]
        if topic == self.rules.topics - 1 and topic not in self.rules.topic_of:
            columns.append(self.rules.members)
        offsets = slots.offsets[np.ix_(rows, columns)]
        offsets = offsets[offsets >= 0]
        return int(offsets.min()) if len(offsets) else None
