"""The join of one partition: predictions and requests in, ended requests out.

A functional core: no clock, no I/O. Time comes in as arguments; ``now`` is monotonic seconds of the process
that reads,
append times are the broker's milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.join.closed_index import ClosedIndex
from stream_ensemble.core.join.ledger import Ledger
from stream_ensemble.core.join.progress import Progress
from stream_ensemble.core.join.records import (
    NO_TIME,
    Added,
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

_ONE = np.uint64(1)
#: No offset: more than any.
_NONE = 2**63
#: So many slots or fewer are released one by one.
_FEW = 16
#: A bit of one member, or of one member per row.
Bits = np.uint64 | NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class JoinRules:
    """What decides when a request ends.

    Durations in ms; ``topic_of[k]`` is member k's input topic; ``required`` is a bit mask of the members
    without whose output there is no answer, ``shadows`` one of those that are not awaited at first.
    """

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
    required: int = 0
    shadows: int = 0


class TakenOut(NamedTuple):
    """What a member had answered to an open request; no ``output`` (V numbers): it had none."""

    request_id: bytes
    member: int
    output: NDArray[np.float64] | None
    at: int
    offset: int
    row: int


class PartitionJoin:
    """State of one partition of one ensemble."""

    def __init__(self, rules: JoinRules) -> None:
        self.rules = rules
        self.slots = Slots(rules.members, rules.values)
        self.closed = ClosedIndex()
        #: The same for requests that were decided early: what comes for them is unneeded, not late.
        self.closed_early = ClosedIndex()
        self.ledger = Ledger()
        self.progress = Progress(rules.topics, list(rules.topic_of), rules.silence_after_ms / 1000)
        self.open_requests = 0
        #: Who is awaited; a request expects all of them, or some.
        self.everyone = np.uint64(((1 << rules.members) - 1) & ~rules.shadows)
        self._note_topics()
        self.required = np.uint64(rules.required)
        #: (offset, row) in the tail of the fused topic: predictions used before a restart, by topic.
        self.used_before: dict[int, set[tuple[int, int]]] = {}
        #: Lower bounds of the dues of all open requests: nothing can time out before.
        self._next_appended = np.iinfo(np.int64).max
        self._next_monotonic = float("inf")
        #: How many answered requests may wait behind the oldest open one before the ring is cut again.
        self._cut_at = self.slots.capacity // 2

    # --- members ----------------------------------------------------------------------------------

    def await_only(self, members: int) -> Decided:
        """Await these members (a bit mask) from now on; returns the open requests that waited for others
        only.

        What somebody who goes has said must have been taken out before, see :meth:`take_out`.
        """
        gone = np.uint64(int(self.everyone) & ~members)
        self.everyone = np.uint64(members)
        self._note_topics()
        slots = self.slots
        live = slots.range()
        live = live[slots.state[slots.row(live)] == OPEN]
        rows = slots.row(live)
        waited = slots.expected[rows] & gone != 0
        live, rows = live[waited], rows[waited]
        slots.expected[rows] &= ~gone
        ready = (slots.answered[rows] & slots.expected[rows]) == slots.expected[rows]
        return self._complete(live[ready]) if ready.any() else nothing_decided()

    def take_out(self, members: int) -> list[TakenOut]:
        """Forget what these members (a bit mask) have answered to open requests, and return it. Its offsets
        stay held.
        """
        slots = self.slots
        live = slots.range()
        rows = slots.row(live)
        some = np.flatnonzero((slots.state[rows] == OPEN) & (slots.answered[rows] & np.uint64(members) != 0))
        found: list[TakenOut] = []
        for slot in live[some].tolist():
            row = slot & slots.mask
            said, awake = slots.cells.answered[row] & members, slots.cells.awake[row]
            for k in [k for k in range(self.rules.members) if said >> k & 1]:
                output = slots.outputs[row, k].copy() if awake >> k & 1 else None
                place = int(slots.offsets[row, k]), int(slots.rows[row, k])
                found.append(TakenOut(slots.ids[row], k, output, int(slots.at[row]), *place))
                slots.outputs[row, k] = 0.0
            for masks in (slots.cells.answered, slots.cells.awake, slots.cells.abstained):
                masks[row] &= ~members
        return found

    def _note_topics(self) -> None:
        """Who opens and ends requests: the topics of those awaited, and the requests topic."""
        topic_of = self.rules.topic_of
        awaited = {topic for k, topic in enumerate(topic_of) if int(self.everyone) >> k & 1}
        self.progress.leading = sorted(awaited | (set(range(self.rules.topics)) - set(topic_of)))

    # --- records in -------------------------------------------------------------------------------

    def add_predictions(self, chunk: Predictions, now: float) -> Added:
        """Take N predictions, of one member or of several."""
        n = len(chunk.ids)
        ledger, slots = self.ledger, self.slots
        ledger.predictions += n
        for member in chunk.members():
            self.progress.heard(member)
        at = np.where(chunk.at == NO_TIME, chunk.appended, np.minimum(chunk.at, chunk.appended))
        verdicts = np.zeros(n, np.uint8)
        numbers = self._open(chunk, at, verdicts, now)
        rows = slots.row(numbers)
        bits = _bits(chunk.member)
        usable = self._refuse_repeats(rows, bits, chunk, verdicts)
        if usable is not None:
            rows, numbers = rows[usable], numbers[usable]
            self.count(verdicts)
        self._keep_sparse(chunk, usable, numbers)
        if not len(rows):
            return Added(verdicts, nothing_decided(), numbers)
        self._store(chunk, rows, bits, usable)
        ledger.held += len(rows)
        expected = slots.expected[rows]
        ready = (slots.answered[rows] & expected) == expected
        if not ready.any():
            return Added(verdicts, nothing_decided(), numbers)
        ended = numbers[ready]
        return Added(
            verdicts, self._complete(ended if isinstance(chunk.member, int) else np.unique(ended)), numbers
        )

    def _keep_sparse(
        self, chunk: Predictions, usable: NDArray[np.intp] | None, numbers: NDArray[np.int64]
    ) -> None:
        """Segment and trace of the used rows, where there are any; the first one of a request counts."""
        if not chunk.segments and not chunk.traces:
            return
        used = range(len(chunk.ids)) if usable is None else usable.tolist()
        for place, slot in zip(used, numbers.tolist(), strict=True):
            if place in chunk.segments:
                self.slots.segment_of.setdefault(slot, chunk.segments[place])
            if place in chunk.traces:
                self.slots.trace_of.setdefault(slot, chunk.traces[place])

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
        verdicts[ended | (verdicts == Verdict.UNNEEDED)] = Verdict.LATE
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
        if chunk.expected[place] & self.everyone:
            slots.expected[row] = chunk.expected[place] & self.everyone
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
            self.note_due(int(slots.due_appended[row]), float(slots.due_monotonic[row]))

    def note_due(self, appended: int, monotonic: float) -> None:
        """Some open request is due at these times (ms of the log, monotonic s), none before."""
        self._next_appended = min(self._next_appended, appended)
        self._next_monotonic = min(self._next_monotonic, monotonic)

    def _open(
        self, chunk: Predictions | Requests, at: NDArray[np.int64], verdicts: NDArray[np.uint8], now: float
    ) -> NDArray[np.int64]:
        """Slot of every row, opening requests for ids not seen; what may not open gets its verdict.

        Shape: N.
        """
        slots = self.slots
        high = slots.high
        numbers = slots.slots_for(chunk.ids)
        late = chunk.appended - at > self.rules.lateness_horizon_ms
        some_late = bool(late.any())
        if some_late:
            verdicts[late] = Verdict.LATE
        fresh = np.flatnonzero(numbers >= high)
        if not len(fresh):
            return numbers
        top = int(numbers[fresh].max()) + 1
        slots.cover(top)
        may = fresh[~late[fresh]] if some_late else fresh
        # The first row of every new slot, in the order of the slots.
        once = not some_late and len(fresh) == top - high
        first = may if once else may[np.unique(numbers[may], return_index=True)[1]]
        ids = chunk.ids if len(first) == len(numbers) else [chunk.ids[place] for place in first.tolist()]
        refused = self._may_not_open(ids)
        if refused.any():
            fates = np.zeros(top - high, np.uint8)
            fates[numbers[first] - high] = refused
            own = verdicts[fresh]
            verdicts[fresh] = np.where(own == Verdict.USED, fates[numbers[fresh] - high], own)
            kept = refused == Verdict.USED
            first, ids = first[kept], [i for i, keep in zip(ids, kept.tolist(), strict=True) if keep]
        if len(first) < top - high:
            self._void(chunk, numbers, fresh, first)
        if len(first):
            self._start(ids, slots.row(numbers[first]), at[first], chunk.appended[first], now)
        return numbers

    def _void(
        self,
        chunk: Predictions | Requests,
        numbers: NDArray[np.int64],
        fresh: NDArray[np.intp],
        opened: NDArray[np.intp],
    ) -> None:
        """Take back the slots that were just given to ids that may not open."""
        void = fresh[~np.isin(numbers[fresh], numbers[opened])]
        slots = self.slots
        slots.forget([chunk.ids[place] for place in void.tolist()], numbers[void])
        rows = slots.row(numbers[void])
        slots.ids[rows] = None
        slots.answered[rows] = slots.awake[rows] = 0
        slots.offsets[rows] = -1

    def _may_not_open(self, ids: list[bytes]) -> NDArray[np.uint8]:
        refused = np.zeros(len(ids), np.uint8)
        refused[self.closed.contains(ids)] = Verdict.LATE
        if len(self.closed_early):
            refused[self.closed_early.contains(ids)] = Verdict.UNNEEDED
        refused[partitions_of(ids, self.rules.partitions) != self.rules.partition] = Verdict.FORWARD
        return refused

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
        if slots.columnar:
            slots.rows[rows] = 0
        slots.answered[rows] = 0
        slots.awake[rows] = 0
        slots.abstained[rows] = 0
        slots.early[rows] = False
        slots.expected[rows] = self.everyone
        slots.at[rows] = at
        slots.first_appended[rows] = appended
        slots.first_read[rows] = now
        slots.due_appended[rows] = appended + wait
        slots.due_monotonic[rows] = now + wait / 1000
        self.note_due(int(appended.min()) + wait, now + wait / 1000)
        self.progress.expecting(now)
        self.ledger.requests += len(ids)
        self.open_requests += len(ids)

    def _refuse_repeats(
        self,
        rows: NDArray[np.int64],
        bits: Bits,
        chunk: Predictions,
        verdicts: NDArray[np.uint8],
    ) -> NDArray[np.intp] | None:
        """Duplicates and predictions of ended requests get their verdict; returns the places left to use,
        None for all.
        """
        slots, member = self.slots, chunk.member
        order = np.arange(len(rows), dtype=np.int32)
        refused = bool(verdicts.any())
        if refused or not isinstance(member, int):
            candidates = np.flatnonzero(verdicts == Verdict.USED)[::-1]
            of = member if isinstance(member, int) else member[candidates]
            slots.seen_at[rows[candidates], of] = candidates
        else:
            # Backwards, so that the first of several stays.
            slots.seen_at[rows[::-1], member] = order[::-1]
        first = slots.seen_at[rows, member] == order
        is_open = slots.state[rows] == OPEN
        answered = slots.answered[rows] & bits != 0
        plain = is_open & first & ~answered
        if not refused and plain.all():
            return None
        odd = (verdicts == Verdict.USED) & ~plain
        again = odd & (answered | (is_open & ~first))
        verdicts[again] = Verdict.DUPLICATE
        ended = odd & ~again
        verdicts[ended] = np.where(slots.early[rows[ended]], Verdict.UNNEEDED, Verdict.LATE)
        self._note_conflicts(np.flatnonzero(again), rows, chunk)
        self._note_replays(chunk, verdicts)
        return np.flatnonzero(verdicts == Verdict.USED)

    def _note_conflicts(self, again: NDArray[np.intp], rows: NDArray[np.int64], chunk: Predictions) -> None:
        if len(again):
            member = chunk.member if isinstance(chunk.member, int) else chunk.member[again]
            first = self.slots.outputs[rows[again], member]
            self.ledger.conflicting += int((first != chunk.outputs[again]).any(axis=1).sum())

    def _note_replays(self, chunk: Predictions, verdicts: NDArray[np.uint8]) -> None:
        """What was used before a restart is read again, neither late nor unneeded."""
        if not self.used_before:
            return
        for place in np.flatnonzero((verdicts == Verdict.LATE) | (verdicts == Verdict.UNNEEDED)).tolist():
            used = self.used_before.get(self.rules.topic_of[chunk.member_of(place)], ())
            row = 0 if chunk.rows is None else int(chunk.rows[place])
            if (int(chunk.offsets[place]), row) in used:
                verdicts[place] = Verdict.REPLAYED

    def _store(
        self, chunk: Predictions, rows: NDArray[np.int64], bits: Bits, usable: NDArray[np.intp] | None
    ) -> None:
        slots, member = self.slots, chunk.member
        outputs, offsets, answers, within = chunk.outputs, chunk.offsets, chunk.answers, chunk.rows
        if usable is not None:
            outputs, offsets = outputs[usable], offsets[usable]
            answers = None if answers is None else answers[usable]
            within = None if within is None else within[usable]
            if not isinstance(member, int):
                member, bits = member[usable], bits[usable]  # type: ignore[index]
        slots.outputs[rows, member] = outputs
        slots.offsets[rows, member] = offsets
        if within is not None:
            slots.columnar = True
            slots.rows[rows, member] = within
        _mark(slots.answered, rows, bits)
        if answers is None:
            _mark(slots.awake, rows, bits)
            return
        for answer, marks in ((Answer.OUTPUT, slots.awake), (Answer.ABSTAIN, slots.abstained)):
            places = np.flatnonzero(answers == answer)
            _mark(marks, rows[places], bits if isinstance(member, int) else bits[places])  # type: ignore[index]

    def count(self, verdicts: NDArray[np.uint8]) -> None:
        """Into the ledger: what is not used."""
        ledger = self.ledger
        ledger.late += int((verdicts == Verdict.LATE).sum())
        ledger.unneeded += int((verdicts == Verdict.UNNEEDED).sum())
        ledger.duplicate += int((verdicts == Verdict.DUPLICATE).sum())
        ledger.forwarded += int((verdicts == Verdict.FORWARD).sum())
        replayed = int((verdicts == Verdict.REPLAYED).sum())
        ledger.replayed += replayed
        ledger.predictions -= replayed

    # --- time -------------------------------------------------------------------------------------

    def advance(self, now: float) -> Decided:
        """Decide every open request whose missing members may be given up by the evidence in ``progress``, at
        monotonic ``now`` (s).
        """
        if not self.open_requests or not self.may_time_out():
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
            if progress.is_quiet(member, now):
                silent |= bit
            if progress.topics[progress.topic_of[member]].unreadable:
                unreadable |= bit
        self._look_again(rows, progress)
        timed_out = (waiting & ~given) == 0
        enough = self._enough(rows)
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

    def is_due(self, now: float) -> bool:
        """Would proofs of the topics' ends at monotonic ``now`` (s) decide some open request?"""
        return bool(self.open_requests) and (now >= self._next_monotonic or self.progress.some_silent)

    def may_time_out(self) -> bool:
        """Has the evidence reached what some open request waits for? Cheap, and may be wrongly true."""
        progress = self.progress
        if progress.some_silent:
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
            self.note_due(int(slots.due_appended[rows].min()), float(slots.due_monotonic[rows].min()))

    def _note_missed(self, waiting: NDArray[np.uint64]) -> None:
        for member in range(self.rules.members):
            times = int((waiting & np.uint64(1 << member) != 0).sum())
            if times:
                self.progress.missed(member, times)

    # --- ends -------------------------------------------------------------------------------------

    def _enough(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Do the outputs there are make an answer? Shape: R."""
        awake = self.slots.awake[rows]
        enough: NDArray[np.bool_] = np.bitwise_count(awake) >= self.rules.quorum
        if self.rules.required:
            wanted = self.required & self.slots.expected[rows]
            enough &= (awake & wanted) == wanted
        return enough

    def answerable(self, touched: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of these slots, each once, the open ones whose outputs make an answer already."""
        numbers = np.unique(touched)
        rows = self.slots.row(numbers)
        enough = (self.slots.state[rows] == OPEN) & self._enough(rows)
        found: NDArray[np.int64] = numbers[enough]
        return found

    def end_early(self, certain: NDArray[np.int64]) -> Decided:
        """End these open requests now: the members still awaited cannot change the answer."""
        if not len(certain):
            return nothing_decided()
        return self._incomplete(certain, np.full(len(certain), Cause.EARLY, np.uint8))

    def _complete(self, ended: NDArray[np.int64]) -> Decided:
        """Every expected member answered: complete, or below the quorum of outputs a fallback."""
        rows = self.slots.row(ended)
        enough = self._enough(rows)
        below = Status.FALLBACK if self.rules.has_prior else Status.EXPIRED
        status = np.where(enough, Status.COMPLETE, below).astype(np.uint8)
        cause = np.where(enough, Cause.NONE, Cause.QUORUM).astype(np.uint8)
        return self._end(ended, rows, status, cause)

    def _incomplete(self, ended: NDArray[np.int64], cause: NDArray[np.uint8]) -> Decided:
        rows = self.slots.row(ended)
        enough = self._enough(rows)
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
        if len(ended) <= _FEW:
            for slot in ended.tolist():
                slots.cells.state[slot & slots.mask] = RELEASED
        else:
            slots.state[slots.row(ended)] = RELEASED
        if slots.high - slots.low >= self._cut_at:
            self._cut()

    def _cut(self) -> None:
        slots = self.slots
        upto = slots.released_prefix()
        if upto > slots.low:
            rows = slots.row(np.arange(slots.low, upto))
            newest = max(int(slots.first_appended[rows].max()), self.progress.oldest_log_time())
            early = rows[slots.early[rows]]
            self.closed_early.add([i for i in slots.ids[early].tolist() if i is not None], newest)
            self.closed.add(slots.cut(upto), newest)
            horizon = self.progress.oldest_log_time() - 2 * self.rules.lateness_horizon_ms
            self.closed.expire(horizon)
            self.closed_early.expire(horizon)
        # Wait until as much again has come, so that a stuck front is not scanned for each release.
        self._cut_at = (slots.high - slots.low) + slots.capacity // 4

    def held(self) -> list[int | None]:
        """By input topic, the lowest offset that an unreleased request still needs; None where none does."""
        lowest = [_NONE] * (self.rules.members + 1)
        for some in self.slots.stretches():
            state = self.slots.state[some]
            needed = (state == OPEN) | (state == DECIDED)
            # -1, where a member has not answered, becomes the largest number there is.
            offsets = self.slots.offsets[some].view(np.uint64)
            for column, least in enumerate(lowest):
                lowest[column] = min(least, int(offsets[:, column].min(where=needed, initial=_NONE)))
        columns: list[list[int]] = [[] for _ in range(self.rules.topics)]
        for member, topic in enumerate(self.rules.topic_of):
            columns[topic].append(lowest[member])
        # The requests topic is the last, where there is one.
        columns[-1] = columns[-1] or [lowest[-1]]
        return [None if (least := min(of_topic)) >= _NONE else least for of_topic in columns]


def _bits(member: int | NDArray[np.int64]) -> Bits:
    if isinstance(member, int):
        return np.uint64(1 << member)
    return _ONE << member.astype(np.uint64)


def _mark(masks: NDArray[np.uint64], rows: NDArray[np.int64], bits: Bits) -> None:
    """Set bits; with one bit per row a row may stand several times."""
    if isinstance(bits, np.ndarray):
        np.bitwise_or.at(masks, rows, bits)
    else:
        masks[rows] |= bits
