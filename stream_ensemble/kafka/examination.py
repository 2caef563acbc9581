"""What about the brokers and their topics would break an ensemble."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient

from stream_ensemble.config import Kafka, Settings
from stream_ensemble.errors import ServerUnavailableError, TopologyError
from stream_ensemble.findings import Finding
from stream_ensemble.kafka.admin import admin_client, read_broker_configs, read_topics
from stream_ensemble.kafka.broker_findings import broker_findings
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
    return broker_findings(configs, kafka)
