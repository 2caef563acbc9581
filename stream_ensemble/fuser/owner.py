"""Who owns which partition, from the moment Kafka assigns it to the moment it is revoked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.structs import TopicPartition
from faust.types import TP

from stream_ensemble.config import Settings, everyone
from stream_ensemble.errors import FencedError
from stream_ensemble.fuser.delivery import DeliveryMode, Place
from stream_ensemble.fuser.ensemble import FusedEnsemble
from stream_ensemble.fuser.partition import FuserPartition
from stream_ensemble.fuser.takeover import take_over
from stream_ensemble.kafka.chunks import Chunk
from stream_ensemble.kafka.fenced_producer import FencedProducer
from stream_ensemble.kafka.transport import ChunkApp, ChunkConsumer

log = logging.getLogger(__name__)

_TICK_S = 0.01
#: Where nothing can be decided, evidence is noted each so many ticks.
_IDLE_TICKS = 5
#: A topic whose end was seen within this time has nothing to give at the moment.
_AT_END_S = 1.0
#: A fetch of columnar records alone may hold more requests than the cap: so many times it are borne while
#: those who are awaited catch up.
_AT_MOST = 2
#: Topics that were held are read again below this share of the cap.
_RESUME_AT = 0.9
#: Chunks of one partition and fetch are processed in one go up to this size.
_TOGETHER_BYTES = 256 << 10
_RETRY_S = (0.1, 0.5, 2.0, 5.0)
#: What is too large for its topic stays so until somebody changes the topic.
_TOO_LARGE_S = 5.0
#: A fence is renewed long before the broker forgets the producer id (1 day) or the transactional id (7 days).
FENCE_RENEWAL_S = 6 * 3600.0


class FuseOwner:
    """Implements ``kafka.transport.PartitionOwner`` for the fuse app."""

    def __init__(
        self,
        app: ChunkApp,
        settings: Settings,
        ensembles: Sequence[FusedEnsemble],
        producer: FencedProducer,
        options: dict[str, Any],
    ) -> None:
        self._app = app
        self._settings = settings
        self._producer = producer
        self._options = options
        self._delivery = DeliveryMode(settings, producer, options, f"{settings.app}-fuse")
        self._ensembles = {ensemble.name: ensemble for ensemble in ensembles}
        self._topic_index = {
            topic: (ensemble, t) for ensemble in ensembles for t, topic in enumerate(ensemble.inputs)
        }
        self._generation = -1
        self.partitions: dict[Place, FuserPartition] = {}
        self._closing: dict[Place, FuserPartition] = {}
        self._preparing: dict[Place, asyncio.Task[None]] = {}
        self._held: set[TP] = set()
        self._fenced_at: dict[Place, float] = {}
        self._given: dict[Place, set[str]] = {}

    @property
    def bytes_in_flight(self) -> int:
        """What was handed to the producer and is not acknowledged."""
        return self._producer.bytes_in_flight

    def held(self, name: str, number: int) -> int:
        """How many input topics of a partition are not read now, because too many requests are open."""
        return sum(tp in self._held for tp in self._ensembles[name].inputs_of(number))

    def members(self, name: str) -> list[str]:
        """Member names of an ensemble, in the order of the settings."""
        return list(everyone(self._ensembles[name].config))

    # --- records ----------------------------------------------------------------------------------

    async def process(self, chunks: Sequence[Chunk], generation: int) -> None:
        """Give chunks to their partitions, when the producer has room.

        A partition's small ones together, since much of the work is per call; large ones one by one, since
        others wait.
        """
        by_number: dict[int, list[Chunk]] = {}
        for chunk in chunks:
            by_number.setdefault(chunk.tp.partition, []).append(chunk)
        for own in by_number.values():
            if sum(chunk.size for chunk in own) <= _TOGETHER_BYTES:
                await self._process(own, generation)
                continue
            for chunk in own:
                await self._process([chunk], generation)
                await asyncio.sleep(0)

    async def _process(self, chunks: Sequence[Chunk], generation: int) -> None:
        await self._delivery.room()
        if generation != self._generation:
            return
        ensemble, _ = self._topic_index[chunks[0].tp.topic]
        partition = self.partitions.get((ensemble.name, chunks[0].tp.partition))
        if partition is None or partition.closed:
            return
        current = [chunk for chunk in chunks if self._consumer.is_current(chunk)]
        partition.process(
            [(self._topic_index[chunk.tp.topic][1], chunk) for chunk in current], time.monotonic()
        )

    async def keep_time(self) -> None:
        """Look at the evidence of all partitions again and again, until cancelled."""
        for turn in count(1):
            await asyncio.sleep(_TICK_S)
            for (name, number), partition in list(self.partitions.items()):
                ensemble = self._ensembles[name]
                if not partition.closed and (turn % _IDLE_TICKS == 0 or self._waits(ensemble, partition)):
                    await self._tick(ensemble, number, partition)

    def _waits(self, ensemble: FusedEnsemble, partition: FuserPartition) -> bool:
        full = partition.join.open_requests >= ensemble.config.max_open_requests
        return full or bool(self._held) or partition.waits(time.monotonic())

    async def _tick(self, ensemble: FusedEnsemble, number: int, partition: FuserPartition) -> None:
        consumer = self._consumer
        now = time.monotonic()
        limit = now - ensemble.config.hold_limit_s
        given = self._given.get((ensemble.name, number), set())
        inputs = ensemble.inputs_of(number)
        ends, failing = consumer.end_evidence(), consumer.failing_since()
        partition.tick(
            [ends.get(tp) if tp.topic in given else None for tp in inputs],
            [tp.topic in given and failing.get(tp, limit) < limit for tp in inputs],
            now,
        )
        if partition.join.is_due(now):
            consumer.hurry_proofs()
        await self._bound(ensemble, number, partition)
        await self._renew(ensemble, number, partition)

    async def _bound(self, ensemble: FusedEnsemble, number: int, partition: FuserPartition) -> None:
        """At the cap of open requests read only the topics these wait for; where that cannot help, or what
        was already on its way fills it twice, decide the oldest.
        """
        cap = ensemble.config.max_open_requests
        if not self._held and partition.join.open_requests < cap:
            partition.holding.relax()
            return
        leading = partition.join.progress.leading
        inputs = [ensemble.inputs_of(number)[t] for t in leading]
        # Among them may be that of a member that has gone into shadow since.
        held = {tp for tp in ensemble.inputs_of(number) if tp in self._held}
        still_open = partition.join.open_requests
        # While any are held, who is awaited is looked at again: else all that could end the open ones may
        # stay held.
        if still_open >= cap or (held and still_open >= cap * _RESUME_AT):
            topics = partition.join.progress.topics
            now = time.monotonic()
            at_end = [topics[t].end_asked_at > now - _AT_END_S for t in leading]
            chosen = partition.holding.choose(leading, at_end, now)
            await self._hold(held, {tp for tp, hold in zip(inputs, chosen, strict=True) if hold})
            if still_open > cap and (not any(chosen) or still_open > _AT_MOST * cap):
                partition.relieve(still_open - cap)
        else:
            partition.holding.relax()
            await self._hold(held, set())

    async def _hold(self, held: set[TP], wanted: set[TP]) -> None:
        if wanted - held:
            self._held |= wanted
            await self._consumer.hold(wanted - held)
        if held - wanted:
            self._held -= held - wanted
            await self._consumer.unhold(held - wanted)

    async def _renew(self, ensemble: FusedEnsemble, number: int, partition: FuserPartition) -> None:
        place = (ensemble.name, number)
        if time.monotonic() - self._fenced_at.get(place, time.monotonic()) > FENCE_RENEWAL_S:
            log.info("renewing the fence of %s partition %d", *place)
            self._restart(place, self._generation)

    # --- kafka.transport.PartitionOwner -------------------------------------------------------------

    def committable(self) -> Mapping[TP, int]:
        """Offsets whose results are acknowledged, for all partitions that were taken over; none where they
        are committed with the results.
        """
        offsets: dict[TP, int] = {}
        if self._delivery.transacted:
            return offsets
        for place, partition in {**self._closing, **self.partitions}.items():
            offsets |= self._committable(place, partition)
        return offsets

    def _committable(self, place: Place, partition: FuserPartition) -> dict[TP, int]:
        name, number = place
        inputs = self._ensembles[name].inputs_of(number)
        found = zip(inputs, partition.committable(), strict=True)
        return {tp: offset for tp, offset in found if offset >= 0}

    def assigned(self, partitions: frozenset[TP], generation: int) -> None:
        """Start taking over every partition number we got."""
        self._closing.clear()
        self._generation = generation
        self._given = self._places(partitions)
        for place in self._given:
            self._restart(place, generation)

    def _places(self, partitions: frozenset[TP]) -> dict[Place, set[str]]:
        """What is owned, and the input topics that were given of it; see ``FusedEnsemble.owns``."""
        found: dict[Place, set[str]] = {}
        for tp in partitions:
            if tp.topic in self._topic_index:
                ensemble, _ = self._topic_index[tp.topic]
                found.setdefault((ensemble.name, tp.partition), set()).add(tp.topic)
        owned = {}
        for (name, number), topics in sorted(found.items()):
            missing = set(self._ensembles[name].inputs) - topics
            if not self._ensembles[name].owns(topics):
                log.info("%s partition %d is another's; here are only %s", name, number, sorted(topics))
                continue
            if missing:
                log.warning(
                    "%s partition %d comes without %s, which not every worker reads: nobody is awaited there",
                    name,
                    number,
                    sorted(missing),
                )
            owned[name, number] = topics
        return owned

    def _inputs(self, place: Place) -> list[TP]:
        """Partition p of the input topics that were given of it."""
        given = self._given.get(place, ())
        return [tp for tp in self._ensembles[place[0]].inputs_of(place[1]) if tp.topic in given]

    def _restart(self, place: Place, generation: int, pause_s: float = 0.0) -> None:
        running = self._preparing.pop(place, None)
        if running is not None:
            running.cancel()
        old = self.partitions.pop(place, None)
        if old is not None:
            old.closed = True
        self._delivery.abandon(place)
        self._preparing[place] = asyncio.get_running_loop().create_task(
            self._prepare(place, generation, pause_s), name=f"take over {place[0]} partition {place[1]}"
        )

    async def _prepare(self, place: Place, generation: int, pause_s: float) -> None:
        """Take over, with back-off, until it works or the generation has passed."""
        attempt = 0
        while generation == self._generation:
            try:
                await self._take_over(place, generation, pause_s)
                return
            except FencedError as error:
                log.info("not taking over %s partition %d: %s", *place, error)
                await asyncio.sleep(1.0)
            except Exception:
                wait = _RETRY_S[min(attempt, len(_RETRY_S) - 1)]
                log.exception("taking over %s partition %d failed; again in %g s", *place, wait)
                attempt += 1
                await asyncio.sleep(wait)

    async def _take_over(self, place: Place, generation: int, pause_s: float) -> None:
        """Take over; ``pause_s`` from now on, in which nothing is read."""
        name, number = place
        ensemble = self._ensembles[name]
        inputs = self._inputs(place)
        await self._consumer.hold(inputs)
        await asyncio.sleep(pause_s)
        began = time.monotonic()
        absent = set(ensemble.inputs) - {tp.topic for tp in inputs}
        producer = self._delivery.producer_of(place, ensemble.transactional_id(number))
        fresh = ensemble.partition(number, producer, lambda error: self._on_failure(place, error), absent)
        took = await take_over(
            ensemble, number, fresh.join, self._consumer, producer, self._options, generation, absent
        )
        if generation != self._generation:
            return
        fresh.start_from(took.positions)
        self._held.difference_update(inputs)
        self.partitions[place] = fresh
        self._fenced_at[place] = began
        self._delivery.begin(place, lambda: _as_kafka(self._committable(place, fresh)), fresh.fail)
        positions = dict(zip(ensemble.inputs_of(number), took.positions, strict=True))
        await self._consumer.start_at({tp: positions[tp] for tp in inputs})
        log.info(
            "took over %s partition %d in %.0f ms: %d ended requests read back",
            name,
            number,
            (time.monotonic() - began) * 1000,
            took.requests_read_back,
        )

    def _on_failure(self, place: Place, error: BaseException) -> None:
        """A delivery failed.

        Fence again if we are still the owner; if not, the heartbeat will be refused and p is dropped.
        """
        pause_s = 0.0
        # In transactions it is what the failure came from.
        if isinstance(error, MessageSizeTooLargeError) or isinstance(
            error.__cause__, MessageSizeTooLargeError
        ):
            pause_s = _TOO_LARGE_S
            ensemble = self._ensembles[place[0]]
            log.error(
                "%s partition %d stands still: a record for it is larger than %s or %s takes. Raise "
                "max.message.bytes there; `stream-ensemble check --connect` says to what. Nothing is lost; "
                "it is tried again every %g s",
                *place,
                ensemble.fused,
                ensemble.late,
                pause_s,
            )
        log.warning("delivery for %s partition %d failed (%r); taking it over again", *place, error)
        self._restart(place, self._generation, pause_s)

    async def revoked(self, partitions: frozenset[TP]) -> None:
        """Close, flush for at most 8 s or half the rebalance time-out; the transport commits right after."""
        self._generation = -1
        await self._close()

    async def drain(self) -> None:
        """The same when the worker stops."""
        self._generation = -1
        await self._close()

    async def _close(self) -> None:
        for task in self._preparing.values():
            task.cancel()
        self._preparing.clear()
        self._held.clear()
        for partition in self.partitions.values():
            partition.closed = True
        self._closing.update(self.partitions)
        self.partitions.clear()
        limit = min(8.0, self._settings.kafka.rebalance_timeout_s / 2)
        try:
            await asyncio.wait_for(self._delivery.finish(), limit)
        except TimeoutError:
            log.warning(
                "not all fused records were acknowledged within %g s; their inputs will be read again", limit
            )

    @property
    def _consumer(self) -> ChunkConsumer:
        consumer: ChunkConsumer = self._app.consumer
        return consumer


def _as_kafka(offsets: Mapping[TP, int]) -> dict[TopicPartition, int]:
    return {TopicPartition(tp.topic, tp.partition): offset for tp, offset in offsets.items()}
