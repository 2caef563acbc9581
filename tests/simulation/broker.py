"""The simulated broker: logs, the transaction coordinator, and what groups have committed."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from aiokafka.structs import TopicPartition

from tests.simulation.log import PartitionLog, Refusal
from tests.simulation.loop import Clock


class Committed(NamedTuple):
    """What a group has committed of one topic partition."""

    offset: int
    metadata: str


class _Transactional:
    """What the coordinator remembers of a transactional id."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.epoch = -1
        self.partitions: set[TopicPartition] = set()
        self.offsets: dict[TopicPartition, Committed] = {}
        #: Markers still to be written of a transaction that has ended.
        self.ending = 0


#: Nodes, each with a replica of everything.
NODES = (0, 1, 2)


class View(NamedTuple):
    """What a node that leads, or believes so, takes for the ends; ``knows``: whether it can be sure."""

    ends: Mapping[TopicPartition, tuple[int, int]]
    knows: bool


class Broker:
    """One cluster of three brokers, of which one leads. Everything happens at once, on arrival of a request.

    Attributes:
        leader: the node that leads all partitions.
        views: by node, what it takes for the ends, where that is not how far the logs go.
    """

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self.clock = clock
        self._rng = rng
        self.logs: defaultdict[TopicPartition, PartitionLog] = defaultdict(PartitionLog)
        self._transactional: dict[str, _Transactional] = {}
        self._pids = 0
        self.offsets: defaultdict[str, dict[TopicPartition, Committed]] = defaultdict(dict)
        #: By group and topic partition, the offsets committed and when (ms).
        self.history: defaultdict[tuple[str, TopicPartition], list[tuple[int, int]]] = defaultdict(list)
        #: Topic partitions that answer fetches with an error.
        self.unreadable: set[TopicPartition] = set()
        self.leader = NODES[0]
        self.views: dict[int, View] = {}
        self.violations: list[str] = []
        #: Markers of transactions that have ended and still have to be written.
        self.ending = 0
        #: Called with (transactional id, name of the process) at each first InitProducerId.
        self.on_fence: Callable[[str, Any], None] = lambda transactional_id, process: None

    # --- leaders ------------------------------------------------------------------------------------

    def elect(self) -> tuple[int, int]:
        """The next node leads, and does not know yet how far all have come; the old one has not heard of it.

        Returns the old one and the new one.
        """
        old, new = self.leader, NODES[(self.leader + 1) % len(NODES)]
        ends = {tp: (log.end, log.stable_end) for tp, log in self.logs.items()}
        self.views[old] = View(ends, True)
        self.views[new] = View(ends, False)
        self.leader = new
        return old, new

    # --- transactions -------------------------------------------------------------------------------

    def init_producer_id(self, transactional_id: str) -> tuple[int, int] | Refusal:
        """A new epoch; an open transaction of the one before is aborted."""
        one = self._transactional.get(transactional_id)
        if one is None:
            self._pids += 1
            one = self._transactional[transactional_id] = _Transactional(self._pids)
        if one.ending:
            return Refusal("ConcurrentTransactions")
        one.epoch += 1
        if one.partitions or one.offsets:
            # The abort is written with the epoch that fences; its owner asks again.
            self._end(one, committed=False)
            if one.ending:
                return Refusal("ConcurrentTransactions")
            one.epoch += 1
        return one.pid, one.epoch

    def add_partitions(
        self, transactional_id: str, pid: int, epoch: int, tps: list[TopicPartition]
    ) -> str | None:
        """They take part in the transaction; an error's name otherwise."""
        one = self._transactional[transactional_id]
        if one.pid != pid or one.epoch != epoch:
            return "InvalidProducerEpoch"
        if one.ending:
            return "ConcurrentTransactions"
        one.partitions.update(tps)
        return None

    def add_offsets(
        self, transactional_id: str, pid: int, epoch: int, offsets: Mapping[TopicPartition, Any]
    ) -> str | None:
        """Offsets that are committed with the transaction."""
        one = self._transactional[transactional_id]
        if one.pid != pid or one.epoch != epoch:
            return "InvalidProducerEpoch"
        if one.ending:
            return "ConcurrentTransactions"
        one.offsets.update({tp: Committed(at.offset, at.metadata) for tp, at in offsets.items()})
        return None

    def end_transaction(self, transactional_id: str, pid: int, epoch: int, group: str) -> str | None:
        """Commit. Asked again after it was committed it says so."""
        one = self._transactional[transactional_id]
        if one.pid != pid or one.epoch != epoch:
            return "InvalidProducerEpoch"
        if one.ending:
            return None
        for tp, committed in one.offsets.items():
            self.commit(group, tp, committed)
        self._end(one, committed=True)
        return None

    def _end(self, one: _Transactional, *, committed: bool) -> None:
        one.offsets = {}
        tps, one.partitions = sorted(one.partitions), set()
        epoch, now = one.epoch, self.clock.broker_ms()
        for tp in tps:
            # The leaders of the partitions get their markers one by one.
            if self._rng.random() < 0.5:
                self.logs[tp].mark(one.pid, epoch, now, now, committed=committed)
            else:
                one.ending += 1
                self.ending += 1
                wait = self._rng.random() * 0.02
                self.clock.at(self.clock.now + wait, None, self._mark_later, one, tp, epoch, now, committed)

    def _mark_later(
        self, one: _Transactional, tp: TopicPartition, epoch: int, ended_ms: int, committed: bool
    ) -> None:
        one.ending -= 1
        self.ending -= 1
        self.logs[tp].mark(one.pid, epoch, self.clock.broker_ms(), ended_ms, committed=committed)

    # --- offsets ------------------------------------------------------------------------------------

    def commit(self, group: str, tp: TopicPartition, committed: Committed) -> None:
        """Keep an offset; it never goes back."""
        before = self.offsets[group].get(tp)
        if before is not None and committed.offset < before.offset:
            self.violations.append(
                f"{group} went back in {tp.topic}/{tp.partition}: {before.offset} -> {committed.offset}"
            )
        if before is None or committed.offset != before.offset:
            self.history[group, tp].append((committed.offset, self.clock.broker_ms()))
        self.offsets[group][tp] = committed
