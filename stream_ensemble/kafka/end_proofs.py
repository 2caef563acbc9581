"""Proof of where a partition ends, for which one broker's word is not enough.

A broker answers with the end it knows. It may have lost the partition to another leader without having heard
of it (half a second while it shuts down, and for a moment after it was frozen), or lead it so newly that it
does not know yet how far the one before had come. Either names an end that lies before records acknowledged
already. So the leader is asked for the end once more, by a request that a new one refuses until it knows
(KIP-207), and another replica is asked whether that one leads: who leads instead needs in-sync replicas that
know of it, or nothing is acknowledged. Of three, with ``min.insync.replicas`` 2, one of the two that were
asked is among them. Both answer after the time for which the end is proved.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import TopicPartition

from stream_ensemble.kafka.chunks import EndEvidence

log = logging.getLogger(__name__)

READ_UNCOMMITTED, READ_COMMITTED = 0, 1
_NEVER = float("-inf")
_LATEST = -1
#: A leader is asked again (s) after this, or sooner while somebody waits for it.
_PAUSE_S, _SOON_S = 0.25, 0.05
#: How long (s) a wish for haste lasts.
_HASTE_S = 0.2
#: An answer is waited for so long (s); who gave none, or denied, is not asked for a while if another can be.
_ANSWER_S, _AVOIDED_S = 1.0, 10.0
#: Connections of their own: on those of the fetches an answer would wait behind one that the broker holds.
_CONNECTIONS = "ends"


class EndProofs:
    """Asks about ends by aiokafka's ``client``; to be used in its event loop.

    Args:
        isolation_level: ``READ_COMMITTED`` for last stable ends.

    Attributes:
        ends: newest proof by partition.
        unproven_since: monotonic time (s) since when a partition's end was asked for in vain.
    """

    def __init__(self, client: Any, isolation_level: int) -> None:
        self._client = client
        self._isolation_level = isolation_level
        self.ends: dict[TopicPartition, EndEvidence] = {}
        self.unproven_since: dict[TopicPartition, float] = {}
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._asked_at: dict[int, float] = {}
        self._avoided_until: dict[int, float] = {}
        self._hurried_at = _NEVER

    def hurry(self) -> None:
        """Somebody waits for ends: for a moment, prove each that is found. From any thread."""
        self._hurried_at = time.monotonic()

    def found(self, node: int, asked_at: float, ends: Mapping[TopicPartition, int]) -> None:
        """A fetch sent to ``node`` at monotonic ``asked_at`` (s) was answered: those are the ends.

        Nobody else can lead a partition without other replicas; the rest is proved in the background.
        """
        doubtful = []
        for tp, offset in ends.items():
            if self._others(tp, node):
                doubtful.append(tp)
            else:
                self._note(tp, EndEvidence(asked_at, offset))
        now = time.monotonic()
        pause = _SOON_S if now - self._hurried_at < _HASTE_S else _PAUSE_S
        if not doubtful or node in self._asking or now - self._asked_at.get(node, _NEVER) < pause:
            return
        self._asked_at[node] = now
        task = asyncio.get_running_loop().create_task(
            self._prove(node, doubtful), name=f"ends of node {node}"
        )
        self._asking[node] = task
        task.add_done_callback(lambda done: self._asked(node, done))

    def read(self, tp: TopicPartition) -> None:
        """Records of ``tp`` were fetched: its leader leads."""
        self.unproven_since.pop(tp, None)

    async def proved(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The ends of these partitions now, asked for until all are proved."""
        left, since = set(tps), time.monotonic()
        while True:
            by_leader: dict[int | None, list[TopicPartition]] = {}
            for tp in sorted(left):
                by_leader.setdefault(self._client.cluster.leader_for_partition(tp), []).append(tp)
            await asyncio.gather(
                *(self._prove(node, led) for node, led in by_leader.items() if node is not None and node >= 0)
            )
            left = {tp for tp in left if tp not in self.ends or self.ends[tp].asked_at < since}
            if not left:
                return {tp: self.ends[tp].offset for tp in tps}
            for tp in by_leader.get(None, ()):
                self._client.add_topic(tp.topic)
            await self._client.force_metadata_update()
            await asyncio.sleep(_SOON_S)

    def _asked(self, node: int, task: asyncio.Task[None]) -> None:
        del self._asking[node]
        if not task.cancelled() and task.exception() is not None:
            log.error("the ends of node %d's partitions cannot be proved", node, exc_info=task.exception())

    async def _prove(self, leader: int, tps: Sequence[TopicPartition]) -> None:
        asked_at = time.monotonic()
        topics: dict[str, list[tuple[int, int]]] = {}
        for tp in tps:
            topics.setdefault(tp.topic, []).append((tp.partition, _LATEST))
        witnesses = self._witnesses(tps, leader)
        leaders = MetadataRequest(sorted(topics), allow_auto_topic_creation=False)
        ends, *said = await asyncio.gather(
            self._answer(leader, OffsetRequest(-1, self._isolation_level, list(topics.items()))),
            *(self._answer(node, leaders) for node in witnesses),
        )
        confirmed, denied = self._heard(leader, tps, dict(zip(witnesses, said, strict=True)))
        found = _ends(ends)
        for tp in tps:
            alone = not self._others(tp, leader)
            if tp in found and tp not in denied and (tp in confirmed or alone):
                self._note(tp, EndEvidence(asked_at, found[tp]))
            else:
                self.unproven_since.setdefault(tp, asked_at)
        if denied:
            self._client.force_metadata_update()

    def _heard(
        self, leader: int, tps: Iterable[TopicPartition], said: Mapping[int, Any]
    ) -> tuple[set[TopicPartition], set[TopicPartition]]:
        """Of which partitions witnesses say that ``leader`` leads them, and of which that another does."""
        confirmed: set[TopicPartition] = set()
        denied: set[TopicPartition] = set()
        for node, answer in said.items():
            leaders = _leaders(answer)
            named = {tp: leaders[tp] for tp in tps if tp in leaders}
            others = {tp for tp, other in named.items() if other != leader}
            if others:
                self._avoid(node)
            denied |= others
            confirmed |= named.keys() - others
        return confirmed, denied

    def _note(self, tp: TopicPartition, end: EndEvidence) -> None:
        self.ends[tp] = end
        self.unproven_since.pop(tp, None)

    def _others(self, tp: TopicPartition, leader: int) -> list[int]:
        """Nodes, up as far as is known, that have ``tp`` too."""
        cluster = self._client.cluster
        up = [broker.nodeId for broker in cluster.brokers() if broker.nodeId != leader]
        known = cluster._partitions.get(tp.topic, {}).get(tp.partition)
        return up if known is None else [node for node in up if node in known.replicas]

    def _witnesses(self, tps: Iterable[TopicPartition], leader: int) -> list[int]:
        """Few nodes, among which another replica of each partition is."""
        chosen: list[int] = []
        for tp in tps:
            others = self._others(tp, leader)
            if others and not set(chosen).intersection(others):
                chosen.append(min(others, key=self._avoided))
        return chosen

    async def _answer(self, node: int, request: Any) -> Any:
        """None when there is none in time."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._client.send(node, request, group=_CONNECTIONS)
        except (kafka_errors.KafkaError, TimeoutError):
            self._avoid(node)
            return None

    def _avoid(self, node: int) -> None:
        self._avoided_until[node] = time.monotonic() + _AVOIDED_S

    def _avoided(self, node: int) -> tuple[float, int]:
        """The less, the better to ask."""
        until = self._avoided_until.get(node, _NEVER)
        return (until if until > time.monotonic() else _NEVER), node


def _ends(answer: Any) -> dict[TopicPartition, int]:
    topics = [] if answer is None else answer.topics
    return {
        TopicPartition(topic, number): offset
        for topic, partitions in topics
        for number, error_code, _, offset in partitions
        if not error_code
    }


def _leaders(answer: Any) -> dict[TopicPartition, int]:
    topics = [] if answer is None else answer.topics
    return {
        TopicPartition(topic, number): leader
        for _, topic, _, partitions in topics
        for _, number, leader, *_ in partitions
    }
