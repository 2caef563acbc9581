"""A real Kafka of one or three brokers with a proxy before each, through which the workers reach it.

Tests' own clients use the direct listener, so that what they write and read does not suffer with the workers.
"""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

from stream_ensemble.embedded import EmbeddedKafka
from stream_ensemble.embedded.kafka_properties import cluster_id
from stream_ensemble.embedded.ports import HOST, free_port
from tests.chaos.proxy import Proxy

_HEAP_MB = 320


class Brokers:
    """``count`` nodes, each broker and controller; with three, replication factor 3 and min ISR 2."""

    def __init__(self, count: int, folder: Path) -> None:
        ports: list[int] = []
        while len(ports) < 4 * count:
            port = free_port()
            if port not in ports:
                ports.append(port)
        controllers = ports[:count]
        voters = ",".join(f"{n + 1}@{HOST}:{port}" for n, port in enumerate(controllers))
        shared = cluster_id(uuid.uuid4().bytes)
        self.nodes: list[EmbeddedKafka] = []
        self.proxies: list[Proxy] = []
        for n, controller in enumerate(controllers):
            direct, behind, front = ports[count + 3 * n : count + 3 * n + 3]
            overrides = {
                "node.id": str(n + 1),
                "controller.quorum.voters": voters,
                "listeners": f"CLIENT://{HOST}:{direct},WORKERS://{HOST}:{behind},CONTROLLER://{HOST}:{controller}",
                "advertised.listeners": f"CLIENT://{HOST}:{direct},WORKERS://{HOST}:{front}",
                "listener.security.protocol.map": "CLIENT:PLAINTEXT,WORKERS:PLAINTEXT,CONTROLLER:PLAINTEXT",
                **(_replicated() if count > 1 else {}),
            }
            self.nodes.append(
                EmbeddedKafka(
                    folder / f"broker{n + 1}",
                    port=direct,
                    heap_mb=_HEAP_MB,
                    overrides=overrides,
                    cluster=shared,
                    start_timeout_s=90.0,
                )
            )
            self.proxies.append(Proxy(front, behind))

    @property
    def copies(self) -> int:
        """Replication factor of the topics."""
        return len(self.nodes)

    @property
    def direct(self) -> list[str]:
        """Bootstrap servers of the tests' own clients."""
        return [node.bootstrap for node in self.nodes]

    @property
    def proxied(self) -> list[str]:
        """Bootstrap servers of the workers."""
        return [f"{HOST}:{proxy.port}" for proxy in self.proxies]

    async def start(self) -> None:
        """All of them, at the same time, since none answers without a majority."""
        for proxy in self.proxies:
            await proxy.start()
        await asyncio.gather(*(asyncio.to_thread(node.start) for node in self.nodes))

    async def stop(self) -> None:
        """End them at once: their data is not needed any more."""
        await asyncio.gather(*(asyncio.to_thread(node.kill) for node in self.nodes))
        for proxy in self.proxies:
            await proxy.stop()

    def heal(self) -> None:
        """Every connection works again."""
        for proxy in self.proxies:
            proxy.heal()


def _replicated() -> dict[str, str]:
    return {
        "min.insync.replicas": "2",
        "offsets.topic.replication.factor": "3",
        "transaction.state.log.replication.factor": "3",
        "transaction.state.log.min.isr": "2",
        "share.coordinator.state.topic.replication.factor": "3",
        "share.coordinator.state.topic.min.isr": "2",
        # A follower that does not follow for so long is out of sync, and writes go on without it.
        "replica.lag.time.max.ms": "3000",
    }
