"""Who owns which partition of the learn app, from the moment Kafka assigns it to the moment it is revoked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from aiokafka.errors import KafkaError
from faust.types import TP

from stream_ensemble.errors import FencedError, StreamEnsembleError
from stream_ensemble.kafka.chunks import Chunk
from stream_ensemble.kafka.transport import ChunkConsumer
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.learner.partition import LearnerPartition
from stream_ensemble.stores.contributions import ContributionStore
from stream_ensemble.stores.rocks_labels import open_label_store

log = logging.getLogger(__name__)

_RETRY_S = (0.1, 0.5, 2.0, 5.0)
#: Between two flushes, in the interval of their beginnings: labels of a flush that takes long are many.
_LEAST_PAUSE = 0.2
#: What the servers and the group may do to us; anything else is a fault of ours and ends the worker.
_OUTSIDE = (StreamEnsembleError, KafkaError, TimeoutError, OSError)

Place = tuple[str, int]


class LearnOwner:
    """Implements ``kafka.transport.PartitionOwner`` for the learn app.

    Args:
        consumer: the app's consumer, once it is there.
        contributions: by ensemble, where its weights are published.
        closing_limit_s: how long letting go of all partitions may take.
        on_fault: ends the worker.

    Attributes:
        partitions: those that are ready, by ensemble and number.
    """

    def __init__(
        self,
        consumer: Callable[[], ChunkConsumer],
        ensembles: Sequence[LearnedEnsemble],
        contributions: Mapping[str, ContributionStore],
        *,
        closing_limit_s: float,
        on_fault: Callable[[str, BaseException], NoReturn],
    ) -> None:
        self.partitions: dict[Place, LearnerPartition] = {}
        self._consumer = consumer
        self._ensembles = {ensemble.name: ensemble for ensemble in ensembles}
        self._ensemble_of = {
            topic: ensemble
            for ensemble in ensembles
            for topic in (ensemble.topics.fused, ensemble.topics.feedback)
        }
        self._contributions = contributions
        self._closing_limit_s = closing_limit_s
        self._on_fault = on_fault
        self._generation = -1
        self._owning: dict[Place, asyncio.Task[None]] = {}

    async def process(self, chunk: Chunk, generation: int) -> None:
        """Give a chunk to its partition; one that nobody here owns is dropped: its owner reads it."""
        place = (self._ensemble_of[chunk.tp.topic].name, chunk.tp.partition)
        partition = self.partitions.get(place)
        if generation != self._generation or not self._consumer().is_current(chunk):
            return
        if partition is None or partition.closed:
            return
        try:
            await partition.on_chunk(chunk)
        except _OUTSIDE as error:
            # The task that owns the partition meets it at its next flush, and begins anew.
            partition.fail(error)

    # --- kafka.transport.PartitionOwner -------------------------------------------------------------

    def committable(self) -> Mapping[TP, int]:
        """None: offsets are committed in the transactions they belong to."""
        return {}

    def assigned(self, partitions: frozenset[TP], generation: int) -> None:
        """Start owning every partition number we got."""
        self._generation = generation
        for place in self._places(partitions):
            name = f"own {place[0]} partition {place[1]}"
            self._owning[place] = asyncio.get_running_loop().create_task(
                self._own(place, generation), name=name
            )

    async def revoked(self, partitions: frozenset[TP]) -> None:
        """Commit what was taken in and let go of everything; the next owner fences whatever is left."""
        await self._close()

    async def drain(self) -> None:
        """The same when the worker stops."""
        await self._close()

    def _places(self, partitions: frozenset[TP]) -> list[Place]:
        found: dict[Place, int] = {}
        for tp in partitions:
            if tp.topic in self._ensemble_of:
                place = (self._ensemble_of[tp.topic].name, tp.partition)
                found[place] = found.get(place, 0) + 1
        split = sorted(place for place, topics in found.items() if topics != 2)
        if split:
            # The group protocol split what belongs together: labels would never meet their answers.
            raise AssertionError(f"fused and feedback were assigned apart: {split}")
        return sorted(found)

    async def _close(self) -> None:
        self._generation = -1
        ready = list(self.partitions.values())
        for partition in ready:
            partition.closed = True
        # Tasks without a ready partition are taking one over: nothing of that is worth waiting for.
        for place, task in self._owning.items():
            if place not in self.partitions:
                task.cancel()
        leaving = [asyncio.ensure_future(partition.close()) for partition in ready]
        leaving += self._owning.values()
        self.partitions.clear()
        self._owning.clear()
        if not leaving:
            return
        done, late = await asyncio.wait(leaving, timeout=self._closing_limit_s)
        for task in done:
            if not task.cancelled() and task.exception() is not None:
                log.warning("letting go of a partition: %r", task.exception())
        if late:
            log.warning("%d partitions were not let go of in %g s", len(late), self._closing_limit_s)
        for task in late:
            # Nobody waits for it any more; what it ends with would be logged as never looked at.
            task.add_done_callback(lambda ended: None if ended.cancelled() else ended.exception())

    # --- one partition ----------------------------------------------------------------------------

    async def _own(self, place: Place, generation: int) -> None:
        """Own a partition until the generation has passed, beginning anew whenever it has to."""
        attempt = 0
        while generation == self._generation:
            try:
                partition = await self._take_over(place, generation)
                attempt = 0
                await self._keep_flushing(place, partition, generation)
                return
            except FencedError as error:
                log.info("%s partition %d: %s", *place, error)
                wait = 1.0
            except _OUTSIDE as error:
                wait = _RETRY_S[min(attempt, len(_RETRY_S) - 1)]
                log.warning("%s partition %d begins anew in %g s: %r", *place, wait, error)
            except Exception as error:
                self._on_fault(f"owning {place[0]} partition {place[1]} failed", error)
            attempt += 1
            if generation == self._generation:
                await asyncio.sleep(wait)

    async def _take_over(self, place: Place, generation: int) -> LearnerPartition:
        name, number = place
        ensemble = self._ensembles[name]
        inputs = [TP(tp.topic, tp.partition) for tp in ensemble.inputs_of(number)]
        began = time.monotonic()
        consumer = self._consumer()
        await consumer.hold(inputs)
        if not await consumer.heartbeat_accepted(generation):
            raise FencedError(f"not a member of the group in generation {generation}")
        store = open_label_store(ensemble.store_directory(number))
        partition = LearnerPartition(ensemble, number, store, self._contributions[name])
        try:
            positions = await partition.prepare()
            if generation != self._generation:
                raise FencedError("revoked while it was taken over")
            await consumer.start_at({TP(tp.topic, tp.partition): at for tp, at in positions.items()})
        except BaseException:
            await partition.close(flush=False)
            raise
        self.partitions[place] = partition
        took_ms = (time.monotonic() - began) * 1000
        log.info("took over %s partition %d in %.0f ms", name, number, took_ms)
        return partition

    async def _keep_flushing(self, place: Place, partition: LearnerPartition, generation: int) -> None:
        """Flush again and again; on failure give the partition up without another word to Kafka."""
        ensemble = self._ensembles[place[0]]
        fused, feedback = TP(ensemble.topics.fused, place[1]), TP(ensemble.topics.feedback, place[1])
        held = False
        interval = ensemble.config.learning.flush_interval_ms / 1000
        began = time.monotonic()
        try:
            while generation == self._generation:
                # From one beginning to the next: what a flush takes is not waited for once more.
                left = began + interval - time.monotonic()
                await asyncio.sleep(max(left, interval * _LEAST_PAUSE))
                began = time.monotonic()
                if self.partitions.get(place) is not partition:
                    return
                partition.idle(self._consumer().end_evidence().get(feedback))
                held = await self._hold_labels(partition, fused, feedback, held)
                await partition.flush()
        except BaseException:
            if self.partitions.get(place) is partition:
                del self.partitions[place]
                await partition.close(flush=False)
            raise

    async def _hold_labels(self, partition: LearnerPartition, fused: TP, feedback: TP, held: bool) -> bool:
        """Stop reading labels while fused records are behind them; returns whether they are held now."""
        consumer = self._consumer()
        ahead = partition.ahead(consumer.end_evidence().get(fused))
        if ahead and not held:
            await consumer.hold([feedback])
        elif held and not ahead:
            await consumer.unhold([feedback])
        return ahead
