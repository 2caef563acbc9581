"""A real Redis Cluster of embedded servers, and what happens to one: nodes die, are replaced, slots move."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import redis

from stream_ensemble.embedded import EmbeddedRedis
from stream_ensemble.embedded.ports import HOST, free_port

SLOTS = 16_384
_LIMIT_S = 30.0
_NODE_TIMEOUT_MS = 1500


class ClusterNode(EmbeddedRedis):
    """One server of a cluster; it keeps its place in it (nodes.conf), and no data, over a restart."""

    def __init__(self, **options: Any) -> None:
        self.bus_port = free_port()
        config = {
            "cluster-enabled": "yes",
            "cluster-port": str(self.bus_port),
            "cluster-node-timeout": str(_NODE_TIMEOUT_MS),
            "cluster-replica-no-failover": "no",
        }
        options["config"] = config | options.get("config", {})
        super().__init__(**options)

    def ask(self, *words: str | int | bytes) -> Any:
        """The answer to a command."""
        with redis.Redis(HOST, self.port, password=self._password, socket_timeout=5) as client:
            return client.execute_command(*words)

    @property
    def node_id(self) -> str:
        return str(self.ask("CLUSTER MYID").decode())

    def says(self, name: str) -> str:
        """One line of CLUSTER INFO."""
        return str(self.ask("CLUSTER INFO")[name])


class RedisCluster:
    """Primaries that share the slots evenly. Enter it to start it."""

    def __init__(self, count: int = 3, **options: Any) -> None:
        self.nodes = [ClusterNode(**options) for _ in range(count)]
        self._options = options
        self._stack = ExitStack()

    def __enter__(self) -> RedisCluster:
        for node in self.nodes:
            self._stack.enter_context(node)
        try:
            self._join()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(node.address for node in self.nodes)}"

    def slots(self, place: int) -> range:
        """The slots that node ``place`` serves at the start."""
        count = len(self.nodes)
        return range(SLOTS * place // count, SLOTS * (place + 1) // count)

    def serving(self, slot: int) -> ClusterNode:
        """The node that serves a slot now."""
        for first, last, primary, *_ in self.nodes[0].ask("CLUSTER SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == primary[1])
        raise AssertionError(f"nobody serves slot {slot}")

    def add(self, replica_of: ClusterNode | None = None) -> ClusterNode:
        """One more node, without slots; it may be a replica."""
        node = self._stack.enter_context(ClusterNode(**self._options))
        meet = ("CLUSTER MEET", HOST, self.nodes[0].port, self.nodes[0].bus_port)
        node.ask(*meet)
        self.nodes.append(node)
        known = str(len(self.nodes))
        until(lambda: all(each.says("cluster_known_nodes") == known for each in self.running()))
        if replica_of is not None:
            until(lambda: _accepted(node, "CLUSTER REPLICATE", replica_of.node_id))
            until(lambda: node.ask("INFO", "replication")["master_link_status"] == "up")
        return node

    def running(self) -> list[ClusterNode]:
        return [node for node in self.nodes if node.running]

    def until_ok(self) -> None:
        """Wait until all running nodes say that the cluster is well and agree on who serves what."""
        until(lambda: all(node.says("cluster_state") == "ok" for node in self.running()))
        until(lambda: len({_primaries(node) for node in self.running()}) == 1)

    def replace(self, dead: ClusterNode) -> ClusterNode:
        """Put a new, empty node in the place of one that is gone, as an operator would."""
        known = self.running()[0].ask("CLUSTER NODES")[dead.address]
        self.nodes.remove(dead)
        for node in self.nodes:
            node.ask("CLUSTER FORGET", known["node_id"])
        node = self.add()
        for first, last in known["slots"]:
            node.ask("CLUSTER ADDSLOTSRANGE", first, last)
        self.until_ok()
        return node

    @contextmanager
    def moving(self, slot: int, to: ClusterNode) -> Iterator[Callable[[bytes], None]]:
        """Move a slot: inside, it is on its way and the function given moves a key; after, all has moved."""
        source = self.serving(slot)
        to.ask("CLUSTER SETSLOT", slot, "IMPORTING", source.node_id)
        source.ask("CLUSTER SETSLOT", slot, "MIGRATING", to.node_id)

        def move(key: bytes) -> None:
            assert source.ask("MIGRATE", HOST, to.port, key, 0, 5000) == b"OK"

        yield move
        for key in source.ask("CLUSTER GETKEYSINSLOT", slot, 1000):
            move(key)
        for node in (to, source, *self.running()):
            node.ask("CLUSTER SETSLOT", slot, "NODE", to.node_id)

    def _join(self) -> None:
        first = self.nodes[0]
        for place, node in enumerate(self.nodes):
            some = self.slots(place)
            node.ask("CLUSTER ADDSLOTSRANGE", some[0], some[-1])
            node.ask("CLUSTER SET-CONFIG-EPOCH", place + 1)
        for node in self.nodes[1:]:
            node.ask("CLUSTER MEET", HOST, first.port, first.bus_port)
        known = str(len(self.nodes))
        until(lambda: all(node.says("cluster_known_nodes") == known for node in self.nodes))
        self.until_ok()


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that takes the servers a moment."""
    end = time.monotonic() + _LIMIT_S
    while not holds():
        assert time.monotonic() < end, "the cluster did not get there in time"
        time.sleep(0.02)


def _accepted(node: ClusterNode, *words: str) -> bool:
    """Whether the node knows enough of the others by now to carry this out."""
    try:
        node.ask(*words)
    except redis.ResponseError:
        return False
    return True


def _primaries(node: ClusterNode) -> frozenset[tuple[int, int, int]]:
    return frozenset((first, last, primary[1]) for first, last, primary, *_ in node.ask("CLUSTER SLOTS"))
