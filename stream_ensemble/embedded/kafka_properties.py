"""The configuration of an embedded Kafka node, as text. Nothing here touches a disk."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from stream_ensemble.embedded.ports import HOST

NODE_ID = 1


def server_properties(
    *,
    port: int,
    controller_port: int,
    num_partitions: int,
    sasl: tuple[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
) -> str:
    """``server.properties`` of a node that is both broker and controller and keeps its topics in ``topics``.

    Args:
        port: of the clients' listener.
        controller_port: of the controller's own listener.
        num_partitions: of a topic created without a count.
        sasl: user and password of a SASL_PLAINTEXT listener; absent: PLAINTEXT without authentication.
        overrides: broker settings that replace these.
    """
    protocol = "PLAINTEXT" if sasl is None else "SASL_PLAINTEXT"
    properties = {
        "process.roles": "broker,controller",
        "node.id": str(NODE_ID),
        "controller.quorum.voters": f"{NODE_ID}@{HOST}:{controller_port}",
        "listeners": f"CLIENT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "CLIENT",
        "listener.security.protocol.map": f"CLIENT:{protocol},CONTROLLER:PLAINTEXT",
        # Relative to the node's working directory: a comma in an absolute path would make two of it.
        "log.dirs": "topics",
        "num.partitions": str(num_partitions),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # One node: internal topics cannot have copies, and few partitions are made and loaded sooner.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        # A killed node's registration stands for this long, and its successor waits for that.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # A small machine's worth of threads and memory.
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
        "log.cleaner.dedupe.buffer.size": str(16 << 20),
        # Deleted topics give their disk back soon.
        "log.segment.delete.delay.ms": "1000",
    }
    if sasl is not None:
        properties |= _sasl_properties(*sasl)
    properties |= overrides or {}
    return "".join(f"{key}={_escaped(value)}\n" for key, value in properties.items())


def _sasl_properties(user: str, password: str) -> dict[str, str]:
    # The node logs in to itself as the same user, e.g. to write transaction markers.
    name, secret = _jaas_quoted(user), _jaas_quoted(password)
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    return {
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.client.plain.sasl.jaas.config": (
            f"{module} required username={name} password={secret} {_jaas_quoted(f'user_{user}')}={secret};"
        ),
    }


def _jaas_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _escaped(value: str) -> str:
    """``value`` as java.util.Properties reads it back: backslashes doubled, non-ASCII as UTF-16 escapes."""
    doubled = value.replace("\\", "\\\\")
    units = doubled.encode("utf-16-be")
    code_units = (int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2))
    return "".join(chr(unit) if unit < 0x80 else f"\\u{unit:04x}" for unit in code_units)


def cluster_id(random: bytes) -> str:
    """A cluster's id, as Kafka writes one, from 16 random bytes.

    Kafka's tools would take one that starts with a dash for an option.
    """
    return base64.urlsafe_b64encode(random).decode().rstrip("=").replace("-", "A")


def log4j2_properties() -> str:
    """log4j2's configuration: warnings and worse to standard output, which goes to the node's log file."""
    return """status=error
appender.stdout.type=Console
appender.stdout.name=stdout
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=[%d] %p %m (%c)%n
rootLogger.level=warn
rootLogger.appenderRef.stdout.ref=stdout
"""
