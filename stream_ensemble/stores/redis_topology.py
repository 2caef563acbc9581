"""Which node of a Redis Cluster serves which slot."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ClusterDownError, ResponseError

from stream_ensemble.settings.redis_address import Node
from stream_ensemble.stores.redis_connection import NotAClusterError

SLOTS = 16_384
_DISABLED = "cluster support disabled"
#: How long the other nodes may take after the first answer.
_GRACE_S = 0.05


class SlotMap:
    """One reading of the topology.

    Args:
        ranges: first and last slot of each range, and the nodes that serve it, the primary first.

    Attributes:
        nodes: all primaries.
        moved: slots that a node said to be elsewhere since.
    """

    def __init__(self, ranges: Sequence[tuple[int, int, tuple[Node, ...]]]) -> None:
        self.ranges = ranges
        self.nodes = tuple(dict.fromkeys(served[0] for _, _, served in ranges))
        self.moved: dict[int, Node] = {}
        self._turns = itertools.cycle(self.nodes)

    @property
    def covered(self) -> int:
        """How many of the slots are served by a node."""
        return sum(last - first + 1 for first, last, _ in self.ranges)

    def node(self, slot: int) -> Node:
        """The primary of a slot.

        Raises:
            ClusterDownError: no node serves it.
        """
        if slot in self.moved:
            return self.moved[slot]
        for first, last, served in self.ranges:
            if first <= slot <= last:
                return served[0]
        raise ClusterDownError(f"hash slot {slot} is served by no node")

    def next_node(self) -> Node:
        """Each primary in turn."""
        node = next(self._turns, None)
        if node is None:
            raise ClusterDownError("no hash slot is served by any node")
        return node


async def read_slots(clients: Mapping[Node, Redis]) -> SlotMap:
    """The topology; all nodes are asked at once and the slow ones not waited for.

    Of those that answered, the view that covers the most slots counts, and of these the one most nodes have:
    a node that is new or was cut off knows less, or what was.

    Raises:
        RedisError, OSError: of one of the nodes, if none answers.
    """
    tasks = [asyncio.create_task(_ask(node, client)) for node, client in clients.items()]
    try:
        await _first_answer(tasks)
        answers = [task.result() for task in tasks if task.done() and task.exception() is None]
        if not answers:
            raise next(error for task in tasks if (error := task.exception()) is not None)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    views = Counter(tuple(answer.ranges) for answer in answers)
    return max(answers, key=lambda answer: (answer.covered, views[tuple(answer.ranges)]))


async def _first_answer(tasks: Sequence[asyncio.Task[SlotMap]]) -> None:
    """Wait until one has an answer and those about to have theirs too, or all have failed."""
    waiting: set[asyncio.Task[SlotMap]] = set(tasks)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if any(task.exception() is None for task in done):
            if waiting:
                await asyncio.wait(waiting, timeout=_GRACE_S)
            return


async def _ask(node: Node, client: Redis) -> SlotMap:
    try:
        answer: Sequence[Sequence[Any]] = await client.execute_command(  # type: ignore[no-untyped-call]
            "CLUSTER SLOTS"
        )
    except ResponseError as error:
        if _DISABLED in str(error):
            raise NotAClusterError(str(node)) from error
        raise
    return SlotMap(
        [
            (int(first), int(last), tuple(_served(node, each) for each in served))
            for first, last, *served in answer
        ]
    )


def _served(asked: Node, address: Sequence[Any]) -> Node:
    """A node that does not know its own host is the one that was asked."""
    host, port = address[:2]
    return Node(host.decode() if host else asked.host, int(port))
