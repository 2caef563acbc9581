"""What is live: the weights topic, and what Redis holds of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from stream_ensemble.config import Settings, everyone
from stream_ensemble.core.learning.membership import admissions, awaited_by
from stream_ensemble.core.learning.trial import Record, record_of
from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.kafka.admin import PATIENCE_S
from stream_ensemble.kafka.reachability import explain_unreachable
from stream_ensemble.kafka.tail import LogReader
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.messages import ControlState
from stream_ensemble.sdk.topics import require_topic
from stream_ensemble.stores.contributions import MARK, Key, Snapshot, Stored
from stream_ensemble.stores.control_state import CONTROLS, state_of
from stream_ensemble.stores.credit_snapshot import CreditSnapshot, Pool
from stream_ensemble.stores.redis_contributions import RedisContributionStore
from stream_ensemble.stores.redis_keys import RedisKeys
from stream_ensemble.stores.weights_topic import PartitionLog, Written
from stream_ensemble.stores.whole import whole_of


@dataclass(frozen=True, slots=True)
class Live:
    """One ensemble's weights as they stand.

    Attributes:
        partitions: how many owners there are.
        topic: by key and partition, the newest record of the weights topic.
        stored: the same and the control states as they should stand in Redis.
        redis: what Redis holds of these keys, and its markers; None: it did not answer.
        redis_away: why.
    """

    partitions: int
    topic: Mapping[Key, Mapping[int, Written]]
    stored: Mapping[Key, Mapping[int, Stored]]
    redis: Snapshot | None
    redis_away: str | None

    @property
    def controls(self) -> ControlState:
        """What the control records come to, as far as a partition has applied them."""
        state, _ = state_of(self.stored.get(CONTROLS, {}))
        return state

    @property
    def generation(self) -> int:
        """The largest of all partitions."""
        return max([0, *(s.order.generation for fields in self.stored.values() for s in fields.values())])

    def cold(self, key: Key) -> bool:
        """Is all that Redis has of ``key`` its mark that it is cold?"""
        return self.redis is not None and key in self.redis.cold and not self.redis.fields.get(key)

    def lacking(self, key: Key) -> dict[int, str]:
        """By partition, why Redis does not hold all that was learned for ``key``; empty: it is complete, or
        marked as cold up to that.
        """
        if self.redis is None:
            return dict.fromkeys(range(self.partitions), "Redis is away")
        found = {}
        for p in range(self.partitions):
            marker = self.redis.markers.get(p)
            lacks = self._lacks(key, p)
            if lacks:
                found[p] = lacks
            elif marker is None or not marker.complete:
                found[p] = "no marker"
        return found

    def _lacks(self, key: Key, p: int) -> str | None:
        assert self.redis is not None
        written, order = self.stored.get(key, {}).get(p), self.redis.order(key, p)
        if (key, p) in self.redis.damaged or (key, MARK) in self.redis.damaged:
            return "damaged"
        if written is None or order == written.order:
            return None
        if order is None:
            return "missing"
        return "behind" if order < written.order else "ahead"


def pin_lines(live: Live) -> Iterator[str]:
    """A line on every pin in force."""
    for pin in live.controls.pins:
        if pin.pinned is not None:
            weights = ", ".join(f"{name} {weight:.4g}" for name, weight in pin.pinned.weights.items())
            where = "all requests" if pin.segment is None else f"requests of segment {pin.segment}"
            yield f"pinned by the {pin.by} (control record {pin.number}): {where} are fused with {weights}"


def member_lines(ensemble: LearnedEnsemble, live: Live) -> Iterator[str]:
    """A line on everyone in shadow, on everyone whom a control record admitted or retired, and on the record
    of each.
    """
    config, said = ensemble.config, admissions(live.controls)
    awaited = awaited_by(live.controls, config.members, config.shadows)
    whole = whole_of(ensemble.algorithm, live.stored.get(Key(ensemble.task), {}))
    for name in everyone(config):
        admission = said.get(name)
        if name in config.members and admission is None:
            continue
        record = record_of(whole, name, config.learning.admission.share)
        by = f" by the {admission.by} (control record {admission.number})" if admission else ""
        standing = "member" if name in awaited else "in shadow"
        done = "" if admission is None else (", admitted" if admission.admitted else ", retired") + by
        yield f"{name}: {standing}{done}; {_record_line(record)}"


def _record_line(record: Record | None) -> str:
    if record is None:
        return "nothing was scored yet"
    return (
        f"{record.labels:g} labels scored, loss {record.own:.4g} alone, {record.mixture:.4g} of the answer, "
        f"{record.mixture - record.gain:.4g} with it; evidence {record.evidence:.3g}"
    )


def in_topic(ensemble: LearnedEnsemble, live: Live, key: Key) -> CreditSnapshot:
    """The weights of ``key`` as the weights topic gives them, by the fuser's own pooling."""
    return _pooled(ensemble, live.stored.get(key, {}))


def in_redis(ensemble: LearnedEnsemble, live: Live, key: Key) -> CreditSnapshot:
    """The same as Redis gives them; Redis must have answered."""
    assert live.redis is not None
    return _pooled(ensemble, live.redis.fields.get(key, {}))


def _pooled(ensemble: LearnedEnsemble, fields: Mapping[int, Stored]) -> CreditSnapshot:
    return Pool(ensemble.algorithm).snapshot(fields)


async def read_live(settings: Settings, ensemble: LearnedEnsemble) -> Live:
    """Everything that is live of an ensemble.

    Raises:
        ServerUnavailableError: Kafka does not answer. That Redis does not stands in the result.
        TopologyError: a topic is missing or has another number of partitions.
    """
    partitions = ensemble.config.partitions
    topic: dict[Key, dict[int, Written]] = {}
    stored: dict[Key, dict[int, Stored]] = {}
    async with log_reader(settings, ensemble, ensemble.topics.weights) as reader:
        for p in range(partitions):
            one = PartitionLog(ensemble.weights(p))
            await one.read_on(reader)
            for key, written in one.newest.items():
                topic.setdefault(key, {})[p] = written
            for key, field in one.stored().items():
                stored.setdefault(key, {})[p] = field
    topic.setdefault(Key(ensemble.task), {})
    async with contribution_store(settings, ensemble) as store:
        try:
            held = await store.read([*topic, CONTROLS])
            return Live(partitions, topic, stored, held, None)
        except ServerUnavailableError as error:
            return Live(partitions, topic, stored, None, str(error))


@asynccontextmanager
async def log_reader(settings: Settings, ensemble: LearnedEnsemble, *topics: str) -> AsyncIterator[LogReader]:
    """A reader of committed records, after a look whether ``topics`` are there.

    Raises:
        ServerUnavailableError, TopologyError: as ``read_live``; also where Kafka goes away inside.
    """
    for topic in topics:
        await require_topic(settings.kafka, topic, ensemble.config.partitions)
    try:
        async with LogReader(ensemble.options, committed_only=True) as reader:
            yield reader
    except (KafkaError, TimeoutError):
        raise await explain_unreachable(settings.kafka, PATIENCE_S) from None


@asynccontextmanager
async def contribution_store(
    settings: Settings, ensemble: LearnedEnsemble
) -> AsyncIterator[RedisContributionStore]:
    """The ensemble's contributions in Redis; nothing connects yet."""
    store = RedisContributionStore(settings.redis, RedisKeys(settings.app, ensemble.name))
    try:
        yield store
    finally:
        await store.close()
