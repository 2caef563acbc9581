"""Bugs planted in the product, each of which the simulation must find; the product has no switch for any."""

from __future__ import annotations

import inspect
import random
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from aiokafka.structs import TopicPartition

from stream_ensemble.core.join.closed_index import ClosedIndex
from stream_ensemble.core.join.progress import Progress
from stream_ensemble.core.join.shadows import Shadows
from stream_ensemble.core.labels import matching
from stream_ensemble.fuser import ensemble as fuser_ensemble
from stream_ensemble.fuser import owner as fuser_owner
from stream_ensemble.fuser import takeover
from stream_ensemble.fuser.fusion import Fusion
from stream_ensemble.fuser.history import FusedHistory
from stream_ensemble.fuser.owner import FuseOwner
from stream_ensemble.fuser.partition import FuserPartition
from stream_ensemble.kafka import end_proofs, fenced_producer
from stream_ensemble.kafka.chunks import EndEvidence
from stream_ensemble.kafka.end_proofs import EndProofs
from stream_ensemble.kafka.fenced_producer import FencedProducer
from stream_ensemble.kafka.transactional_output import TransactionalOutput
from stream_ensemble.kafka.transport import ChunkConsumer
from stream_ensemble.learner import partition as learner_partition
from stream_ensemble.learner import restore
from stream_ensemble.learner.partition import LearnerPartition
from stream_ensemble.learner.publisher import WeightsPublisher
from stream_ensemble.stores.weights_topic import PartitionLog
from tests.simulation import settings
from tests.simulation.broker import Committed
from tests.simulation.effects import CrashPoint
from tests.simulation.faults import Fault
from tests.simulation.group import SESSION_S
from tests.simulation.network import here
from tests.simulation.run import Schedule
from tests.simulation.settings import VARIANTS


class Bug(NamedTuple):
    """Something to be replaced in the product: ``name`` of ``place`` becomes ``wrong(what it is)``.

    ``like`` makes schedules in which it shows soon, from a number; as it is, any schedule. Up to ``most``
    may be needed to find it.
    """

    place: Any
    name: str
    wrong: Callable[[Any], Any]
    like: Callable[[int], Schedule] = Schedule
    most: int = 150


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """The product has the bug as long as this is open."""
    right = getattr(bug.place, bug.name)
    setattr(bug.place, bug.name, bug.wrong(right))
    try:
        yield
    finally:
        setattr(bug.place, bug.name, right)


def rewritten(old: str, new: str) -> Callable[[Any], Any]:
    """The same function with ``old``, which must stand in its source, replaced."""

    def rewrite(right: Any) -> Any:
        source = textwrap.dedent(inspect.getsource(right))
        assert source.count(old) == 1, f"{old!r} does not stand once in {right.__qualname__}"
        made: dict[str, Any] = {}
        lines = "from __future__ import annotations\n" + source.replace(old, new)
        exec(lines, sys.modules[right.__module__].__dict__, made)
        return made[right.__name__]

    return rewrite


# --- what makes them show ---------------------------------------------------------------------------


def _cut_off(seed: int) -> Schedule:
    """A fuser is cut off with answers on their way, and connected again at about the time at which its
    successor has fenced and read back, and has written nothing yet: they are tried again at once.
    """
    rng = random.Random(seed)
    at = 0.6 + 1.4 * rng.random()
    length = SESSION_S + 0.15 + 0.55 * rng.random()
    return Schedule(seed, instead=(Fault(at, "cut", f"fuse-{seed % 2}", length),), transacted=False)


def _refused(seed: int) -> Schedule:
    """One batch after the other is refused, while chunks wait for longer than it takes to begin anew."""
    rng = random.Random(seed)
    places = [f"{settings.NAME}.fused/{number}" for number in range(settings.PARTITIONS)]
    refusals = tuple(Fault(0.3 + 0.1 * step, "refuse", rng.choice(places)) for step in range(25))
    return Schedule(seed, instead=refusals, busy=0.0, waiting=0.9, transacted=False)


def _refused_inside(seed: int) -> Schedule:
    """The same in transactions."""
    return replace(_refused(seed), transacted=True)


def _ended_inside(seed: int) -> Schedule:
    """Fusers end in the middle of their transactions, again and again."""
    rng = random.Random(seed)
    faults = []
    for step in range(8):
        host, at = f"fuse-{step % 2}", 0.9 + 0.5 * step
        point = CrashPoint(host, at, "write offsets", rng.randint(1, 3), True)
        faults.append(Fault(at, "crash", host, 0.3, point))
    return Schedule(seed, instead=tuple(faults), transacted=True)


def _oversized(seed: int) -> Schedule:
    """Nothing goes wrong but that answers are too large for a while."""
    place = f"{settings.NAME}.fused/{seed % settings.PARTITIONS}"
    return Schedule(seed, instead=(Fault(0.8, "oversized", place, 1.5),))


def _at_the_cap(seed: int) -> Schedule:
    """With the settings of a low cap of open requests, while a member cannot be read: the others are held."""
    away = [
        Fault(0.3, "unreadable", f"{settings.NAME}.predictions.a/{number}", 1.8)
        for number in range(settings.PARTITIONS)
    ]
    return Schedule(3 + VARIANTS * seed, instead=tuple(away))


def _busy(seed: int) -> Schedule:
    """Nothing goes wrong; processes are slow to look at what came."""
    return Schedule(seed, instead=(), busy=0.4)


def _led(seed: int) -> Schedule:
    """Nothing goes wrong but that others lead, again and again."""
    rng = random.Random(seed)
    changes = tuple(Fault(0.3 + 0.9 * step, "new leader", "", 1.0 + rng.random()) for step in range(4))
    return Schedule(seed, instead=changes)


# --- the fuser --------------------------------------------------------------------------------------


def _commit_what_was_read(right: Any) -> Any:
    return lambda self: [topic.next_offset for topic in self.join.progress.topics]


def _one_too_far(right: Any) -> Any:
    def committable(self: FuserPartition) -> list[int]:
        ends = [topic.next_offset for topic in self.join.progress.topics]
        return [min(offset + 1, end) for offset, end in zip(right(self), ends, strict=True)]

    return committable


def _nothing_read_back(right: Any) -> Any:
    async def read_back(*args: Any) -> int:
        return 0

    return read_back


def _ignored(right: Any) -> Any:
    return lambda self, *args: None


def _kept_digests(right: Any) -> Any:
    def init(self: Fusion, *args: Any, **more: Any) -> None:
        right(self, *args, **more)
        process = here()
        self._written = process.__dict__.setdefault("digests", {})

    return init


def _no_keyframe_at_first(right: Any) -> Any:
    def keyframe(self: Fusion, snapshot: Any, status: Any) -> Any:
        first = not self._written
        found = right(self, snapshot, status)
        return None if first else found

    return keyframe


def _accepted_anyway(right: Any) -> Any:
    async def heartbeat_accepted(self: ChunkConsumer, generation: int) -> bool:
        await right(self, generation)
        return True

    return heartbeat_accepted


def _evidence_of_the_answer(right: Any) -> Any:
    def note(self: EndProofs, tp: Any, end: EndEvidence) -> None:
        right(self, tp, EndEvidence(here().time(), end.offset))

    return note


def _found_is_proved(right: Any) -> Any:
    def found(self: EndProofs, node: int, asked_at: float, ends: Any) -> None:
        for tp, offset in ends.items():
            self._note(tp, EndEvidence(asked_at, offset))

    return found


def _errors_ignored(right: Any) -> Any:
    def ends(answer: Any) -> dict[TopicPartition, int]:
        return {
            TopicPartition(topic, number): offset
            for topic, partitions in answer.topics
            for number, _, _, offset in partitions
        }

    return ends


def _closing_kept(right: Any) -> Any:
    def assigned(self: FuseOwner, partitions: Any, generation: int) -> None:
        closing = dict(self._closing)
        right(self, partitions, generation)
        self._closing.update(closing)

    return assigned


def _nothing_brought_along(right: Any) -> Any:
    def follow(self: FuserPartition) -> Any:
        leave, self.shadows.leave = self.shadows.leave, lambda members: leave(members) and []  # type: ignore[method-assign]
        try:
            return right(self)
        finally:
            del self.shadows.leave

    return follow


def _released_anyway(right: Any) -> Any:
    def delivered(self: FuserPartition, slots: Any, future: Any) -> None:
        self.join.release(slots)

    return delivered


# --- the learner ------------------------------------------------------------------------------------


def _offsets_first(right: Any) -> Any:
    async def commit(self: TransactionalOutput, records: Any, offsets: Any, metadata: str) -> Any:
        process = here()
        world = process.world

        def commit_now() -> None:
            for tp, offset in offsets.items():
                world.broker.commit(self._group_id, tp, Committed(offset, metadata))

        await process.ask(commit_now)
        return await right(self, records, offsets, metadata)

    return commit


def _store_first(right: Any) -> Any:
    async def write(self: LearnerPartition, outgoing: Any, taken: Any) -> Any:
        if outgoing:
            self._store.write(taken.changes, taken.position(self._owner, self._applied))
        return await right(self, outgoing, taken)

    return write


def _never_looked(right: Any) -> Any:
    async def check(self: WeightsPublisher) -> None:
        pass

    return check


def _nothing_from_the_log(right: Any) -> Any:
    async def read_partition(reader: Any, tp: Any) -> PartitionLog:
        return PartitionLog(tp)

    return read_partition


#: By what is wrong.
BUGS: dict[str, Bug] = {
    "commit before acknowledgement": Bug(FuserPartition, "committable", _commit_what_was_read),
    "commit watermark off by one": Bug(FuserPartition, "committable", _one_too_far),
    "an answer that failed is released": Bug(FuserPartition, "_fused_delivered", _released_anyway),
    "index not read at takeover": Bug(takeover, "_read_back", _nothing_read_back),
    "used before not restored": Bug(FusedHistory, "_used", _ignored),
    "closed index not filled": Bug(ClosedIndex, "add", _ignored),
    "digests kept over a fence": Bug(Fusion, "__init__", _kept_digests),
    "no keyframe after a fence": Bug(Fusion, "_keyframe", _no_keyframe_at_first),
    "keyframe behind what refers to it": Bug(
        fuser_ensemble,
        "columnar",
        rewritten("sorted(alike(rows), key=lambda places: int(places[0]))", "alike(rows)"),
    ),
    "fence without an accepted heartbeat": Bug(ChunkConsumer, "heartbeat_accepted", _accepted_anyway),
    "fence by the epoch alone": Bug(
        fenced_producer,
        "fence",
        rewritten("await _retried(partial(add, producer_id, epoch), deadline, transactional_id)", "pass"),
        _cut_off,
    ),
    "what waits goes out under the next fence": Bug(
        FencedProducer, "fence", rewritten("_batches.pop(tp, ())", "_batches.get(None, ())")
    ),
    "evidence from a stale answer": Bug(EndProofs, "_note", _evidence_of_the_answer, _busy),
    "whoever answers is believed to lead": Bug(EndProofs, "found", _found_is_proved, _led),
    "a leader of the past is believed": Bug(
        EndProofs, "_prove", rewritten("tp not in denied and (tp in confirmed or alone)", "True"), _led
    ),
    "a leader that does not know yet is believed": Bug(end_proofs, "_ends", _errors_ignored, _led),
    "end beyond what was processed": Bug(
        Progress, "at_end", rewritten("offset > state.next_offset or asked_at", "asked_at"), _busy
    ),
    "deadline one read too early": Bug(
        Progress,
        "given_up",
        rewritten("due_appended <= state.log_time", "due_appended - 250 <= state.log_time"),
    ),
    "late acknowledgement after revoke": Bug(FuseOwner, "assigned", _closing_kept),
    "chunk from before a restart taken": Bug(
        ChunkConsumer, "is_current", lambda right: lambda self, chunk: True, _refused
    ),
    "a failed batch does not fail its transaction": Bug(
        TransactionalOutput, "_write", rewritten("raise result", "continue"), _refused_inside
    ),
    "held for ever when its member goes into shadow": Bug(
        FuseOwner, "_bound", rewritten("tp in ensemble.inputs_of(number) if", "tp in inputs if"), _at_the_cap
    ),
    "what who retires has said is forgotten": Bug(Shadows, "enter", _ignored),
    "who is admitted brings nothing along": Bug(FuserPartition, "_follow_members", _nothing_brought_along),
    "no pause before an answer too large is tried again": Bug(
        FuseOwner, "_on_failure", rewritten("pause_s = _TOO_LARGE_S", "pass"), _oversized
    ),
    "aborted answers read back": Bug(
        fuser_owner, "take_over", rewritten("committed_only=True", "committed_only=False"), _ended_inside
    ),
    "offsets beside the transaction": Bug(
        FuseOwner, "committable", rewritten("if self._delivery.transacted:", "if False:"), _ended_inside
    ),
    "offsets outside the learner's transaction": Bug(TransactionalOutput, "commit", _offsets_first),
    "local store ahead of the transaction": Bug(LearnerPartition, "_write", _store_first),
    "weights not read at takeover": Bug(restore, "read_partition", _nothing_from_the_log),
    "duplicate label check dropped": Bug(
        matching, "_take_label", rewritten("before is not None and new.place <= before.place", "False")
    ),
    "correction counted as a new label": Bug(
        matching, "_learn", rewritten("return back, added._replace(first=False)", "return back, added")
    ),
    "correction does not take the old label back": Bug(
        matching,
        "_learn",
        rewritten("return back, added._replace(first=False)", "return (added._replace(first=False),)"),
    ),
    "segments left behind at takeover": Bug(
        learner_partition,
        "restore",
        rewritten(
            "for key, stored in usable.items()", "for key, stored in usable.items() if not key.segment"
        ),
    ),
    "segments not written again after a loss": Bug(
        WeightsPublisher,
        "_write_all_again",
        rewritten("dict(self._all)", "{k: one for k, one in self._all.items() if not k.segment}"),
    ),
    "Redis marker not checked": Bug(WeightsPublisher, "check", _never_looked),
}
