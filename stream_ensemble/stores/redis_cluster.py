"""Commands to a Redis Cluster.

The client library's own cluster client is not used: it sends ASKING on another connection than the command
it is for, sleeps a quarter of a second between attempts whatever our time-outs are, and needs the permission
to read the server's list of commands. What we send has its keys in one slot each, so little is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream_ensemble import config
from stream_ensemble.settings import redis_address
from stream_ensemble.settings.redis_address import Node
from stream_ensemble.stores.redis_connection import connect
from stream_ensemble.stores.redis_link import Call, send
from stream_ensemble.stores.redis_topology import SlotMap, read_slots

#: Rounds of one call: a slot that moves twice while it is asked for, and a topology read anew between.
_ROUNDS = 8
#: While the keys of a slot are on their way, a script that needs two of them has to wait.
_TRY_AGAIN_S = 0.02


@dataclass(slots=True)
class _Waiting:
    """A call without an answer: where it goes next, whether a node said to ask there, and its last error."""

    node: Node
    asking: bool = False
    error: Exception | None = None


class ClusterLink:
    """A ``Link`` that sends each call to the node that serves its slot, one round trip to each node.

    Redirections are followed. A node that fails makes it read the topology again; if another node serves the
    slot now, the call goes there, else its error is raised and the next call reads the topology first.

    Raises:
        SettingsError: a TLS file is missing or cannot be used.
    """

    def __init__(self, server: config.Redis) -> None:
        self._server = server
        self._seeds = redis_address.nodes(server.url)
        self._clients: dict[Node, Redis] = {}
        for node in self._seeds:
            self._client(node)
        self._slots: SlotMap | None = None
        self._looking = asyncio.Lock()

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        """See ``Link``."""
        answers: list[Any] = [None] * len(calls)
        slots = [key_slot(call.key.encode()) for call in calls]
        waiting = {place: _Waiting(await self._where(slot)) for place, slot in enumerate(slots)}
        for _ in range(_ROUNDS):
            await self._round(calls, waiting, answers)
            if not waiting:
                return answers
            await self._redirect(slots, waiting)
        raise next(each.error for each in waiting.values() if each.error)

    async def listener(self) -> Redis:
        """See ``Link``. A message goes to all nodes of a cluster, so any will do."""
        topology = await self._topology()
        return self._client(topology.next_node())

    async def close(self) -> None:
        """See ``Link``."""
        await self._forget(list(self._clients))

    async def _round(self, calls: Sequence[Call], waiting: dict[int, _Waiting], answers: list[Any]) -> None:
        """Send what waits; what got its answer waits no longer."""
        groups: dict[tuple[Node, bool], list[int]] = {}
        for place, each in waiting.items():
            groups.setdefault((each.node, each.asking), []).append(place)
        results = await asyncio.gather(
            *(
                self._send(node, [calls[place] for place in places], asking)
                for (node, asking), places in groups.items()
            )
        )
        for places, group in zip(groups.values(), results, strict=True):
            for place, answer in zip(places, group, strict=True):
                if isinstance(answer, Exception):
                    waiting[place].error = answer
                else:
                    answers[place] = answer
                    del waiting[place]

    async def _send(self, node: Node, calls: Sequence[Call], asking: bool) -> list[Any]:
        try:
            return await send(self._client(node), calls, asking=asking)
        except BaseException as error:
            # Also when our time is up: the node may hang for ever and be replaced meanwhile.
            self._slots = None
            if not isinstance(error, RedisError | OSError):
                raise
            error.add_note(f"node {node}")
            return [error] * len(calls)

    async def _redirect(self, slots: Sequence[int], waiting: dict[int, _Waiting]) -> None:
        """Find out where each call that failed goes next; raises its error if nowhere."""
        for place, each in waiting.items():
            error, failed = each.error, each.node
            each.asking = isinstance(error, AskError) and not isinstance(error, MovedError)
            if isinstance(error, AskError):
                each.node = Node(error.host or failed.host, error.port)
                if not each.asking and self._slots is not None:
                    self._slots.moved[slots[place]] = each.node
            elif isinstance(error, TryAgainError):
                await asyncio.sleep(_TRY_AGAIN_S)
                each.node = await self._where(slots[place])
            elif isinstance(error, RedisConnectionError | RedisTimeoutError | OSError):
                each.node = await self._where(slots[place])
                if each.node == failed:
                    self._slots = None
                    raise error
            elif error is not None:
                if isinstance(error, ClusterDownError | BusyLoadingError):
                    self._slots = None
                raise error

    async def _where(self, slot: int) -> Node:
        topology = await self._topology()
        try:
            return topology.node(slot)
        except ClusterDownError:
            self._slots = None
            raise

    async def _topology(self) -> SlotMap:
        """What is known of the cluster, read anew if something failed since."""
        async with self._looking:
            if self._slots is None:
                asked = [*self._clients]
                self._slots = await read_slots({node: self._client(node) for node in asked})
                known = {*self._slots.nodes, *self._seeds}
                await self._forget([node for node in self._clients if node not in known])
            return self._slots

    def _client(self, node: Node) -> Redis:
        if node not in self._clients:
            self._clients[node] = connect(self._server, node)
        return self._clients[node]

    async def _forget(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            await self._clients.pop(node).aclose()
