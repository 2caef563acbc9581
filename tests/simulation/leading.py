"""What nodes say to a client of who leads and where partitions end; some do not know better."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import TopicPartition

from tests.simulation.broker import NODES, Broker
from tests.simulation.network import Process
from tests.simulation.settings import PARTITIONS

#: Error codes of Kafka's: no longer leads; leads, and does not know yet how far all have come.
NOT_LEADING, _NOT_KNOWN = 6, 5
#: At the end, when there is little to read, a process is busy with something else more often.
_BUSY_AT_LAST = 0.35


class Nodes:
    """``AIOKafkaClient`` as the product's ``EndProofs`` uses it.

    Attributes:
        leader: the node that is taken for the leader of all partitions.
    """

    def __init__(self, process: Process, broker: Broker) -> None:
        self._process = process
        self._broker = broker
        # Whoever was asked first may have been one who believes that it leads still.
        self.leader: int = process.rng.choice([broker.leader, *broker.views])
        nodes = [SimpleNamespace(nodeId=node) for node in NODES]
        self.cluster = SimpleNamespace(
            brokers=lambda: nodes, leader_for_partition=lambda tp: self.leader, _partitions={}
        )

        self._conns: dict[Any, Any] = {}

    async def ready(self, node_id: int) -> bool:
        """See aiokafka."""
        return True

    def force_metadata_update(self) -> asyncio.Future[bool]:
        """See aiokafka; here it is done at once."""
        self.leader = self._broker.leader
        done = self._process.create_future()
        done.set_result(True)
        return done

    async def send(self, node_id: int, request: Any, group: Any = None) -> Any:
        """An answer of the node, which may lie in the socket while the process is busy."""
        answering = self._leaders if isinstance(request, MetadataRequest) else self._ends
        answer = await self._process.once(None, "", answering, node_id, request)
        if busy(self._process):
            await asyncio.sleep(self._process.rng.random())
        return answer

    def end(self, node_id: int, tp: TopicPartition) -> tuple[int, int]:
        """Where the node says that a partition ends, and its stable part."""
        view, log = self._broker.views.get(node_id), self._broker.logs[tp]
        return (log.end, log.stable_end) if view is None else view.ends.get(tp, (0, 0))

    def deposed(self, node_id: int) -> bool:
        """Does the node know that another leads?"""
        return node_id != self._broker.leader and node_id not in self._broker.views

    def _leaders(self, node_id: int, request: MetadataRequest) -> Any:
        leader = self._broker.leader if self.deposed(node_id) else node_id
        led = [(0, number, leader, NODES) for number in range(PARTITIONS)]
        return SimpleNamespace(topics=[(0, topic, False, led) for topic in request._topics or ()])

    def _ends(self, node_id: int, request: OffsetRequest) -> Any:
        view = self._broker.views.get(node_id)
        code = NOT_LEADING if self.deposed(node_id) else _NOT_KNOWN if view and not view.knows else 0
        place = 1 if request._isolation_level else 0
        topics = []
        for topic, partitions in request._topics:
            tps = [TopicPartition(topic, number) for number, _ in partitions]
            topics.append((topic, [(tp.partition, code, -1, self.end(node_id, tp)[place]) for tp in tps]))
        return SimpleNamespace(topics=topics)


def busy(process: Process) -> bool:
    """Is the process busy with something else just now?"""
    world = process.world
    return process.rng.random() < (max(world.busy, _BUSY_AT_LAST) if world.last else world.busy)
