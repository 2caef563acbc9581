"""What members in shadow say, beside the join: it opens nothing, is awaited by nobody and decides nothing.

A prediction is kept until its request ends, and then put beside the components of the answer. So by
construction no shadow changes when or how a request ends. One that comes after the end is late, as a member's
would be; one that nobody else ever answers is late when the members have been read to the lateness horizon
after it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.join.records import NO_TIME, Answer, Decided, Predictions, Verdict
from stream_ensemble.core.join.slots import OPEN
from stream_ensemble.core.join.state import PartitionJoin, TakenOut
from stream_ensemble.core.partitioning import partition_of

#: How many requests are looked at in one go for having waited too long.
_AT_ONCE = 64


class Waiting(NamedTuple):
    """A prediction of a member in shadow. ``record`` is what it stood in, for the late topic; None where its
    request is open already. ``output`` holds V numbers, None where the member gave none; ``read_at`` is
    monotonic seconds.
    """

    member: int
    request_id: bytes
    output: NDArray[np.float64] | None
    at: int
    appended: int
    offset: int
    row: int
    read_at: float
    record: Any


class Shadows:
    """The predictions in shadow of one partition.

    Args:
        join: that of its members; its ledger counts these predictions too.
        most: of them held for requests that are not there; the oldest are late beyond that.
    """

    def __init__(self, join: PartitionJoin, most: int) -> None:
        self._join = join
        self._most = most
        self._waiting: dict[bytes, dict[int, Waiting]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def take(
        self, chunk: Predictions, records: Any, ending: Collection[bytes], now: float
    ) -> NDArray[np.uint8]:
        """Take N predictions, all of members in shadow; returns their verdicts. USED: it waits.

        Args:
            records: that they stood in, by place.
            ending: ids of requests whose end has not been written yet.
        """
        verdicts = np.zeros(len(chunk.ids), np.uint8)
        ledger = self._join.ledger
        ledger.predictions += len(chunk.ids)
        for place, request_id in enumerate(chunk.ids):
            verdict = verdicts[place] = self._verdict(chunk, place, request_id, ending)
            if verdict == Verdict.USED:
                self._hold(waiting_of(chunk, place, records[place], now))
        self._join.count(verdicts)
        return verdicts

    def _verdict(
        self, chunk: Predictions, place: int, request_id: bytes, ending: Collection[bytes]
    ) -> Verdict:
        join, member = self._join, chunk.member_of(place)
        appended, at = int(chunk.appended[place]), int(chunk.at[place])
        if at != NO_TIME and appended - at > join.rules.lateness_horizon_ms:
            return self._again(chunk, place, Verdict.LATE)
        if member in self._waiting.get(request_id, ()):
            return Verdict.DUPLICATE
        slot = join.slots.slot_of.get(request_id)
        if slot is not None:
            row = slot & join.slots.mask
            if join.slots.cells.answered[row] >> member & 1:
                return self._again(chunk, place, Verdict.DUPLICATE)
            if join.slots.cells.state[row] == OPEN or request_id in ending:
                return Verdict.USED
            return self._again(chunk, place, Verdict.LATE)
        if join.closed.has(request_id) or join.closed_early.has(request_id):
            return self._again(chunk, place, Verdict.LATE)
        if partition_of(request_id, join.rules.partitions) != join.rules.partition:
            return Verdict.FORWARD
        return Verdict.USED

    def _again(self, chunk: Predictions, place: int, verdict: Verdict) -> Verdict:
        """The verdict, but for what was used before a restart and is read again."""
        join = self._join
        used = join.used_before.get(join.rules.topic_of[chunk.member_of(place)], ())
        row = 0 if chunk.rows is None else int(chunk.rows[place])
        return Verdict.REPLAYED if (int(chunk.offsets[place]), row) in used else verdict

    def _hold(self, one: Waiting) -> None:
        self._waiting.setdefault(one.request_id, {})[one.member] = one
        self._join.ledger.held += 1

    def beside(self, decided: Decided) -> list[Waiting]:
        """Put what waits for these requests, which just ended, beside their components; returns it."""
        if not self._waiting:
            return []
        slots = self._join.slots
        found: list[Waiting] = []
        for slot in decided.slots.tolist():
            row = slot & slots.mask
            waiting = self._waiting.pop(slots.ids[row], None)
            if waiting is not None:
                found += waiting.values()
                for one in waiting.values():
                    self._put(one, row)
        return found

    def _put(self, one: Waiting, row: int) -> None:
        slots, ledger = self._join.slots, self._join.ledger
        ledger.held -= 1
        bit = 1 << one.member
        if slots.cells.answered[row] & bit:
            ledger.duplicate += 1
            return
        ledger.used += 1
        slots.cells.answered[row] |= bit
        slots.offsets[row, one.member] = one.offset
        if one.row:
            slots.columnar = True
            slots.rows[row, one.member] = one.row
        if one.output is not None:
            slots.cells.awake[row] |= bit
            slots.outputs[row, one.member] = one.output

    def give_up(self) -> list[Waiting]:
        """Those whose requests nobody else has asked or will, or that are too many: they are late."""
        until = self._join.progress.oldest_log_time() - self._join.rules.lateness_horizon_ms
        given: list[Waiting] = []
        looked_at = max(_AT_ONCE, len(self._waiting) - self._most)
        for request_id, waiting in list(islice(self._waiting.items(), looked_at)):
            first = next(iter(waiting.values()))
            if first.appended >= until and len(self._waiting) <= self._most:
                break
            slot = self._join.slots.slot_of.get(request_id)
            if slot is None:
                del self._waiting[request_id]
                given += waiting.values()
        self._join.ledger.held -= len(given)
        self._join.ledger.late += len(given)
        return given

    def leave(self, members: int) -> list[Waiting]:
        """Let go of what these members (a bit mask) have said: they are in shadow no more."""
        left: list[Waiting] = []
        for request_id, waiting in list(self._waiting.items()):
            for member in [member for member in waiting if members >> member & 1]:
                left.append(waiting.pop(member))
            if not waiting:
                del self._waiting[request_id]
        self._join.ledger.held -= len(left)
        self._join.ledger.predictions -= len(left)
        return left

    def enter(self, taken: Sequence[TakenOut]) -> None:
        """Take over what members that are in shadow now have said to requests still open."""
        for one in taken:
            waiting = Waiting(
                one.member, one.request_id, one.output, one.at, one.at, one.offset, one.row, 0.0, None
            )
            self._waiting.setdefault(one.request_id, {}).setdefault(one.member, waiting)


def waiting_of(chunk: Predictions, place: int, record: Any, now: float) -> Waiting:
    """One row of a chunk, read at ``now``."""
    has_output = chunk.answers is None or chunk.answers[place] == Answer.OUTPUT
    return Waiting(
        chunk.member_of(place),
        chunk.ids[place],
        chunk.outputs[place].copy() if has_output else None,
        int(chunk.at[place]),
        int(chunk.appended[place]),
        int(chunk.offsets[place]),
        0 if chunk.rows is None else int(chunk.rows[place]),
        now,
        record,
    )


def as_predictions(waiting: Sequence[Waiting], values: int) -> Predictions:
    """N of them as a chunk for the join, in the order they came. Shape: outputs N x ``values``."""
    outputs = np.zeros((len(waiting), values))
    answers = np.full(len(waiting), Answer.ABSTAIN, np.uint8)
    for place, one in enumerate(waiting):
        if one.output is not None:
            outputs[place], answers[place] = one.output, Answer.OUTPUT
    return Predictions(
        np.array([one.member for one in waiting], np.int64),
        [one.request_id for one in waiting],
        outputs,
        answers,
        np.array([one.at for one in waiting], np.int64),
        np.array([one.appended for one in waiting], np.int64),
        np.array([one.offset for one in waiting], np.int64),
        np.array([one.row for one in waiting], np.int32),
    )
