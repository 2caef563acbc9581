"""How the brokers' limits differ from what the workers need, in words, with what repairs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stream_ensemble.config import Kafka
from stream_ensemble.findings import Finding

#: Workers renew their fences every six hours, and may miss one.
LEAST_EXPIRATION_MS = 12 * 3_600_000
#: Kafka's own default, and what survives the loss of a broker without a pause.
SAFE_REPLICAS = 3
_EXPIRATIONS = ("transactional.id.expiration.ms", "producer.id.expiration.ms")


def broker_findings(configs: Mapping[str, Mapping[str, str]], kafka: Kafka) -> list[Finding]:
    """Everything wrong with the brokers, whose configuration in force is given by broker id."""
    found = [finding for broker, config in configs.items() for finding in _of_broker(broker, config, kafka)]
    return found + list(_of_cluster(len(configs), kafka))


def _of_broker(broker: str, config: Mapping[str, str], kafka: Kafka) -> Iterator[Finding]:
    session_s = kafka.session_timeout_s
    least = int(config.get("group.min.session.timeout.ms", 0))
    most = int(config.get("group.max.session.timeout.ms", session_s * 1000))
    if not least <= session_s * 1000 <= most:
        yield Finding(
            level="error",
            subject=f"broker {broker}",
            problem=f"takes sessions of {least} to {most} ms; kafka.session_timeout_s is {session_s}",
            repair="set kafka.session_timeout_s within these bounds",
        )
    for name in _EXPIRATIONS:
        if int(config.get(name, LEAST_EXPIRATION_MS)) < LEAST_EXPIRATION_MS:
            yield Finding(
                level="error",
                subject=f"broker {broker}",
                problem=f"{name} is {config[name]}: it would forget who owns a partition",
                repair=f"set the broker's {name} to at least {LEAST_EXPIRATION_MS}",
            )


def _of_cluster(brokers: int, kafka: Kafka) -> Iterator[Finding]:
    if brokers >= SAFE_REPLICAS > kafka.replication_factor:
        yield Finding(
            level="warning",
            subject="kafka",
            problem=f"{brokers} brokers, but kafka.replication_factor is {kafka.replication_factor}",
            repair=f"set kafka.replication_factor = {SAFE_REPLICAS} before the topics are made",
        )
