"""What owns partition p of one ensemble in the learn app: chunks in, one transaction per flush out, then
Redis.

``prepare()``, then ``on_chunk()`` for what is read from the returned positions, ``flush()`` now and then, and
``close()``. Whatever fails, the remedy is the same: drop this object and prepare a new one, for the topics
hold exactly what was committed.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from functools import partial

from aiokafka.structs import TopicPartition

from stream_ensemble.core.labels.by_segment import BySegment
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.charging import Learned
from stream_ensemble.core.labels.matching import give_up_excess, give_up_orphans, take_labels, take_trials
from stream_ensemble.errors import StreamEnsembleError
from stream_ensemble.kafka.chunks import Chunk, Columns, EndEvidence
from stream_ensemble.kafka.decode import Refused
from stream_ensemble.kafka.transactional_output import Outgoing, TransactionalOutput
from stream_ensemble.learner import answers, records
from stream_ensemble.learner.admitter import Admitter, admits
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.learner.feedback_clock import FeedbackClock
from stream_ensemble.learner.gathered import Gathered
from stream_ensemble.learner.guard import Guard, guards
from stream_ensemble.learner.publisher import WeightsPublisher
from stream_ensemble.learner.reading import feedback_reader
from stream_ensemble.learner.refill import KEYFRAME_MARGIN_MS
from stream_ensemble.learner.restore import restore, stamp
from stream_ensemble.learner.slices import in_slices
from stream_ensemble.learner.standing import Standing, changes_of
from stream_ensemble.stores import background
from stream_ensemble.stores.contributions import ContributionStore, Order
from stream_ensemble.stores.labels import LabelStore

#: With this much not flushed, the rest of a chunk waits for a flush: memory stays bounded whatever the lag.
_MOST_ANSWERS = 20_000
_MOST_LABELS = 20_000
#: How many orphans one flush gives up, and how many answers it forgets.
_ORPHANS = 10_000
_EXPIRED = 20_000
#: So far in log time labels may be ahead of fused records: holding them in step would only delay them.
_AHEAD_MS = 2_000
#: Fused records alone change nothing that others see; their offset is committed this often (s).
_COMMIT_S = 5.0


class PositionError(StreamEnsembleError):
    """What was read does not follow what was taken: read again from the committed position."""

    retriable = True


class LearnerPartition:
    """State and effects of one owned partition.

    Args:
        store: this process's local store of the partition; closed by ``close``.
        contributions: where to publish; not closed, for all partitions share it.

    Attributes:
        counts: what happened to labels since this process took the partition, by word.
        closed: nothing is taken in any more.
        guard: the guardrail of the whole ensemble, which one partition's owner keeps.
        admitter: admits those in shadow; kept in the same way.
        failure: why a flush failed; every later one fails in the same way.
    """

    def __init__(
        self, ensemble: LearnedEnsemble, partition: int, store: LabelStore, contributions: ContributionStore
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.closed = False
        self.failure: BaseException | None = None
        self.publisher = WeightsPublisher(
            contributions,
            partition,
            on_overtaken=self._overtaken,
            cold_after_s=ensemble.config.learning.cold_segment_s,
        )
        self.guard = Guard(ensemble, contributions) if guards(ensemble, partition) else None
        self.admitter = Admitter(ensemble, contributions) if admits(ensemble, partition) else None
        self._ensemble = ensemble
        self._partition = partition
        self._store = store
        self._owner = uuid.uuid4().hex
        self._output = TransactionalOutput(
            ensemble.options,
            transactional_id=ensemble.transactional_id(partition),
            group_id=ensemble.group_id,
            max_batch_bytes=ensemble.kafka.max_batch_bytes,
            compression=None if ensemble.kafka.compression == "none" else ensemble.kafka.compression,
        )
        self._reader = feedback_reader(ensemble, partition)
        self._clock = FeedbackClock()
        self._flushing = asyncio.Lock()
        self._beside: list[asyncio.Task[None]] = []
        self._overtaken_by: Order | None = None
        self._standing = Standing(Learned(0, BySegment()), Order(0, 0, 0), 0)
        self._gathered = Gathered(Changes(store), 0, 0, 0)
        self._applied = 0
        self._committed: dict[TopicPartition, int] = {}
        self._committed_at = 0.0

    @property
    def standing(self) -> Standing:
        """What is learned and committed."""
        return self._standing

    @property
    def parked(self) -> int:
        """How many labels wait for their fused record."""
        return self._gathered.changes.parked_count()

    @property
    def stored_bytes(self) -> int:
        """What the local store takes."""
        return self._store.stored_bytes()

    async def prepare(self) -> dict[TopicPartition, int]:
        """Fence the owner before, restore what stands, and claim the partition; returns where to start
        reading.

        Raises:
            FencedError: somebody else is taking it over.
            ServerUnavailableError, KafkaError: Kafka does not answer.
        """
        await self._output.start()
        restored = await restore(self._ensemble, self._partition, self._store, self._owner)
        self._standing, self._applied = restored.standing, restored.applied
        self._gathered = Gathered(
            Changes(self._store), restored.fused, restored.feedback, restored.fused_until
        )
        await self._write([], self._gathered)
        self.publisher.offer(restored.published, self._standing.order)
        self._beside = [asyncio.create_task(self.publisher.run(), name=f"publish {self._partition}")]
        if self.guard is not None:
            self._beside.append(asyncio.create_task(self.guard.run(), name="guardrail"))
        if self.admitter is not None:
            self._beside.append(asyncio.create_task(self.admitter.run(), name="admission"))
        return self._offsets(self._gathered)

    # --- in ---------------------------------------------------------------------------------------

    async def on_chunk(self, chunk: Chunk) -> None:
        """Take what was read of fused p or feedback p; waits for a flush when too much is held.

        Raises:
            FencedError, ServerUnavailableError: from that flush.
            PositionError: the chunk does not follow what was taken before.
        """
        if self.closed:
            return
        expected = self._offsets(self._gathered)[chunk.tp]
        if chunk.first < expected:
            # Read before this owner was prepared, and read again from the position it gave.
            return
        if chunk.first > expected:
            raise PositionError(f"{chunk.tp}: read from {chunk.first} on, {expected} is next")
        for columns, after in in_slices(chunk.columns(), chunk.next_offset):
            if not await self._has_room():
                return
            self._take_in(chunk.tp, columns, after)

    async def _has_room(self) -> bool:
        """Flush where too much is held; then, may more be taken in?"""
        held = self._gathered
        if len(held.changes.answers) >= _MOST_ANSWERS or held.labels >= _MOST_LABELS:
            await self.flush()
        return not self.closed

    def fail(self, error: BaseException) -> None:
        """Take nothing more in; the next flush raises ``error``."""
        if self.failure is None:
            self.failure = error
        self.closed = True

    def idle(self, evidence: EndEvidence | None) -> None:
        """Take the newest proof that feedback p was read to its end."""
        if evidence is not None and evidence.offset <= self._gathered.feedback:
            self._clock.at_end(evidence.asked_at)

    def ahead(self, evidence: EndEvidence | None) -> bool:
        """Are the labels read much further in time than the fused records, with more of these to come?

        Then labels should wait, or each of a backlog would be parked, and a correction judged before its
        answer. ``evidence`` is the newest proof that fused p was read to its end.
        """
        if evidence is not None and evidence.offset <= self._gathered.fused:
            return False
        return self._clock.labels_until > self._gathered.fused_until + _AHEAD_MS

    def _take_in(self, tp: TopicPartition, columns: Columns, after: int) -> None:
        if tp.topic == self._ensemble.topics.fused:
            self._take_answers(tp, columns)
            self._gathered.fused = after
        else:
            self._take_labels(tp, columns)
            self._gathered.feedback = after

    def _take_answers(self, tp: TopicPartition, columns: Columns) -> None:
        here = self._gathered
        refuse = partial(self._refuse, tp)
        here.charges += answers.take_all(here.changes, self._ensemble.rules, columns, refuse)
        if columns.records:
            here.fused_until = max(here.fused_until, int(columns.appended.max()))
            self._clock.read_fused(here.fused_until, time.monotonic())

    def _take_labels(self, tp: TopicPartition, columns: Columns) -> None:
        here = self._gathered
        found = self._reader.read(columns)
        here.labels += len(found)
        here.charges += take_labels(here.changes, self._ensemble.rules, found.here, here.fused_until)
        here.charges += take_trials(here.changes, self._ensemble.rules, found.trials)
        here.controls += found.controls
        for item in found.refused:
            self._refuse(tp, item)
        for misplaced in found.elsewhere:
            here.aside.append(records.forwarded(self._ensemble, misplaced))
            here.changes.counts["forwarded"] += 1
        if columns.records:
            self._clock.read_label(int(columns.appended.max()))

    def _refuse(self, tp: TopicPartition, item: Refused) -> None:
        self._gathered.aside.append(records.refused(self._ensemble, tp, item))
        self._gathered.changes.counts[f"dead:{item.error.reason}"] += 1

    def _overtaken(self, order: Order) -> None:
        self._overtaken_by = order

    # --- out --------------------------------------------------------------------------------------

    async def flush(self, *, last: bool = False) -> None:
        """Commit everything taken in so far in one transaction, then keep it locally and offer it to Redis.

        Args:
            last: commit also an offset that could wait.

        Raises:
            FencedError: another owner has taken over; nothing of this flush is visible. This object is done.
            ServerUnavailableError: it is not known what became of it. This object is done too.
        """
        async with self._flushing:
            if self.failure is not None:
                raise self.failure
            try:
                await self._flush(last)
            except BaseException as error:
                self.fail(error)
                raise

    async def _flush(self, last: bool) -> None:
        here = self._gathered
        if self.guard is not None:
            here.aside += self.guard.switches()
        if self.admitter is not None:
            here.aside += self.admitter.orders()
        give_up_orphans(here.changes, self._ensemble.rules, here.fused_until, _ORPHANS)
        give_up_excess(here.changes, self._ensemble.config.learning.max_parked_labels, _MOST_LABELS)
        late = last or time.monotonic() - self._committed_at >= _COMMIT_S
        moved = self._offsets(here) != self._committed
        if here.says_something or self._overtaken_by is not None or (moved and late):
            await self._commit()
        elif here.changes.answers:
            self._keep(self._take())
        self._store.expire(self._needed_since(), _EXPIRED)

    async def close(self, *, flush: bool = True) -> None:
        """Take nothing more in, commit what was taken (unless told not to), and let go of everything.

        Raises:
            FencedError, ServerUnavailableError: from that flush; everything is let go of all the same.
        """
        self.closed = True
        try:
            if flush:
                await self.flush(last=True)
        finally:
            if self._beside:
                await background.end(self._beside)
                if flush:
                    await self.publisher.publish()
            await self._output.stop()
            self._store.close()

    async def _commit(self) -> None:
        taken = self._take()
        overtaken_by, self._overtaken_by = self._overtaken_by, None
        step = self._standing.after(
            taken.charges, taken.changes, self._ensemble.algorithm_over, overtaken_by, taken.controls
        )
        written = await self._write(
            [*taken.aside, *records.of_flush(self._ensemble, self._partition, taken.changes, step)], taken
        )
        self._standing = step.standing
        self._applied = max(self._applied, written.get(self._ensemble.applied(self._partition), 0))
        self.counts += step.counts
        self._keep(taken)
        order = step.standing.order
        at = round(time.time() * 1000)
        self.publisher.offer(changes_of(self._ensemble.task, step, at), order)

    async def _write(self, outgoing: list[Outgoing], taken: Gathered) -> dict[TopicPartition, int]:
        offsets = self._offsets(taken)
        written = await self._output.commit(outgoing, offsets, stamp(self._standing.epoch, self._owner))
        self._committed, self._committed_at = offsets, time.monotonic()
        return written

    def _take(self) -> Gathered:
        taken, self._gathered = self._gathered, self._gathered.next()
        return taken

    def _keep(self, taken: Gathered) -> None:
        """Into the local store, after the transaction: the store never knows more than the topics say."""
        self._store.write(taken.changes, taken.position(self._owner, self._applied))
        self._gathered.changes.rest_on(self._store)
        self.counts += taken.changes.counts

    def _offsets(self, gathered: Gathered) -> dict[TopicPartition, int]:
        fused, feedback = self._ensemble.inputs_of(self._partition)
        return {fused: gathered.fused, feedback: gathered.feedback}

    def _needed_since(self) -> int:
        """Append time (ms) before which no fused record can get a label that counts."""
        return self._clock.until - self._ensemble.rules.label_horizon_ms - KEYFRAME_MARGIN_MS
