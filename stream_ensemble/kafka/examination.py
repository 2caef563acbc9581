"""What about the brokers and their topics would break an ensemble."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aiokafka.admin import AIOKafkaAdminClient

from stream_ensemble.config import Kafka, Settings
from stream_ensemble.errors import ServerUnavailableError, TopologyError
from stream_ensemble.findings import Finding
from stream_ensemble.kafka.admin import admin_client, read_broker_configs, read_topics
from stream_ensemble.kafka.topology import wanted_topics, with_room_for
from stream_ensemble.kafka.topology_findings import topic_findings


async def examine(settings: Settings) -> list[Finding]:
    """Everything wrong with brokers and topics; one error where no broker can be reached.

    Raises:
        SettingsError: a TLS file cannot be used.
    """
    try:
        async with admin_client(settings.kafka) as client:
            return [*await _broker_findings(client, settings.kafka), *await _topic_findings(client, settings)]
    except (ServerUnavailableError, TopologyError) as error:
        return [
            Finding(
                level="error", subject="kafka", problem=str(error), repair="correct [kafka] in the settings"
            )
        ]


async def _topic_findings(client: AIOKafkaAdminClient, settings: Settings) -> list[Finding]:
    wanted = wanted_topics(settings)
    actual = await read_topics(client, (topic.name for topic in wanted))
    factor = settings.kafka.replication_factor
    return [
        finding
        for topic in with_room_for(wanted, actual)
        for finding in topic_findings(topic, actual.get(topic.name), factor)
    ]


async def _broker_findings(client: AIOKafkaAdminClient, kafka: Kafka) -> list[Finding]:
    try:
        configs = await read_broker_configs(client)
    except TopologyError as error:
        return [
            Finding(
                level="warning",
                subject="kafka",
                problem=str(error),
                repair="allow the user DescribeConfigs on the cluster, to have the brokers' limits looked at",
            )
        ]
    return [finding for broker, config in configs.items() for finding in _limits(broker, config, kafka)]


def _limits(broker: str, config: Mapping[str, str], kafka: Kafka) -> Iterator[Finding]:
    session_s = kafka.session_timeout_s
    session_ms = session_s * 1000
    least = int(config.get("group.min.session.timeout.ms", 0))
    most = int(config.get("group.max.session.timeout.ms", session_ms))
    if not least <= session_ms <= most:
        yield Finding(
            level="error",
            subject=f"broker {broker}",
            problem=f"takes sessions of {least} to {most} ms; kafka.session_timeout_s is {session_s}",
            repair="set kafka.session_timeout_s within these bounds",
        )
