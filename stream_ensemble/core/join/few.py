"""A handful of predictions into the join without arrays: what :meth:`PartitionJoin.add_predictions` does with
many, several times faster for few.

A call into NumPy costs about a microsecond however little there is to do, and the way for many makes some
hundred; at low traffic a chunk holds a handful of records, and that would be all the time an answer waits.
Only what is plain goes this way. The rest (late, a duplicate, another partition's, of an ended request) is
left to the way for many, which has words for it. A property test holds both to the same state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from stream_ensemble.core.join.records import NO_TIME, Cause, Decided, Single, Status
from stream_ensemble.core.join.slots import DECIDED, OPEN
from stream_ensemble.core.join.state import PartitionJoin
from stream_ensemble.core.partitioning import partition_of


def add_few(join: PartitionJoin, few: Sequence[Single], now: float) -> Decided | None:
    """Take N predictions, those of one member in log order, and return the requests that ended by them.

    None when one of them is not plain: then nothing was changed.
    """
    if not _all_plain(join, few):
        return None
    slots, ledger, width = join.slots, join.ledger, join.rules.values
    for member in {one.member for one in few}:
        join.progress.heard(member)
    ended = set()
    for one in few:
        slot = slots.slot_of.get(one.request_id)
        if slot is None:
            slot = _open(join, one, now)
        cells, row, bit = slots.cells, slot & slots.mask, 1 << one.member
        begin = (row * slots.members + one.member) * width
        for place, number in enumerate(one.output, begin):
            cells.outputs[place] = number
        cells.offsets[row * (slots.members + 1) + one.member] = one.offset
        answered = cells.answered[row] = cells.answered[row] | bit
        cells.awake[row] |= bit
        if one.segment is not None:
            slots.segment_of.setdefault(slot, one.segment)
        if one.trace is not None:
            slots.trace_of.setdefault(slot, one.trace)
        expected = cells.expected[row]
        if answered & expected == expected:
            ended.add(slot)
    ledger.predictions += len(few)
    ledger.held += len(few)
    return _complete(join, sorted(ended))


def _at(one: Single) -> int:
    return one.appended if one.at == NO_TIME else min(one.at, one.appended)


def _all_plain(join: PartitionJoin, few: Iterable[Single]) -> bool:
    """Is each on time, the first of its member, and of a request that is open or may be opened?"""
    slots, horizon = join.slots, join.rules.lateness_horizon_ms
    cells = slots.cells
    named: set[tuple[bytes, int]] = set()
    opening: set[bytes] = set()
    for one in few:
        request_id = one.request_id
        named_before = len(named)
        named.add((request_id, one.member))
        if len(named) == named_before or one.appended - _at(one) > horizon:
            return False
        slot = slots.slot_of.get(request_id)
        if slot is not None:
            row = slot & slots.mask
            if cells.state[row] != OPEN or cells.answered[row] >> one.member & 1:
                return False
        elif request_id not in opening:
            if not _may_open(join, request_id):
                return False
            opening.add(request_id)
    return True


def _may_open(join: PartitionJoin, request_id: bytes) -> bool:
    rules = join.rules
    if join.closed.has(request_id) or join.closed_early.has(request_id):
        return False
    return partition_of(request_id, rules.partitions) == rules.partition


def _open(join: PartitionJoin, one: Single, now: float) -> int:
    """Open the request of a prediction; returns its slot."""
    slots, wait = join.slots, join.rules.deadline_ms
    slot = slots.slot_of[one.request_id]
    slots.cover(slot + 1)
    row, cells = slot & slots.mask, slots.cells
    slots.ids[row] = one.request_id
    slots.outputs[row] = 0.0
    slots.offsets[row] = -1
    if slots.columnar:
        slots.rows[row] = 0
    cells.state[row] = OPEN
    cells.answered[row] = cells.awake[row] = cells.abstained[row] = 0
    cells.early[row] = False
    cells.expected[row] = int(join.everyone)
    cells.at[row] = _at(one)
    cells.first_appended[row] = one.appended
    cells.first_read[row] = now
    cells.due_appended[row] = one.appended + wait
    cells.due_monotonic[row] = now + wait / 1000
    join.note_due(one.appended + wait, now + wait / 1000)
    join.progress.expecting(now)
    join.ledger.requests += 1
    join.open_requests += 1
    return slot


def _complete(join: PartitionJoin, ended: list[int]) -> Decided:
    """Every expected member of these has answered: complete, or below the quorum of outputs a fallback."""
    rules, ledger, slots = join.rules, join.ledger, join.slots
    cells = slots.cells
    enough = []
    for slot in ended:
        row = slot & slots.mask
        awake, wanted = cells.awake[row], rules.required & cells.expected[row]
        enough.append(awake.bit_count() >= rules.quorum and awake & wanted == wanted)
        cells.state[row] = DECIDED
        answers = cells.answered[row].bit_count()
        ledger.held -= answers
        ledger.used += answers
    join.open_requests -= len(ended)
    ledger.complete += sum(enough)
    below = len(ended) - sum(enough)
    if rules.has_prior:
        ledger.fallback += below
    else:
        ledger.expired += below
    other = Status.FALLBACK if rules.has_prior else Status.EXPIRED
    return Decided(
        np.array(ended, np.int64),
        np.array([Status.COMPLETE if well else other for well in enough], np.uint8),
        np.array([Cause.NONE if well else Cause.QUORUM for well in enough], np.uint8),
    )
