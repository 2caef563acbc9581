"""Reading and changing the topics of an ensemble on the brokers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from stream_ensemble.config import Kafka
from stream_ensemble.errors import TopologyError
from stream_ensemble.kafka.offset_errors import OffsetsAdminClient
from stream_ensemble.kafka.reachability import explain_unreachable
from stream_ensemble.kafka.security import client_options
from stream_ensemble.kafka.topology import ActualTopic, WantedTopic, creation_configs

#: Longest wait for one answer here: a person sits before it, so shorter than a worker's patience.
PATIENCE_S = 10.0
_POLL_S = 0.05
#: Kafka's number for "set for this topic", among where a configuration can come from.
_SET_FOR_TOPIC = 1


@asynccontextmanager
async def admin_client(kafka: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client, closed afterwards.

    Raises:
        ServerUnavailableError: no broker answers, or none lets us in; also where that happens inside.
        SettingsError: a TLS file cannot be used.
    """
    patience_s = min(PATIENCE_S, kafka.request_timeout_s)
    options = client_options(kafka) | {"request_timeout_ms": round(patience_s * 1000)}
    client = OffsetsAdminClient(**options)
    try:
        await client.start()
        yield client
    except (KafkaError, TimeoutError, OSError):
        raise await explain_unreachable(kafka, patience_s) from None
    finally:
        await client.close()


async def read_topics(client: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, ActualTopic]:
    """Those of ``names`` that exist. All topics are listed, since asking for one by name may create it.

    Raises:
        TopologyError: their configuration may not be read.
    """
    wanted = set(names)
    listed = {topic["topic"]: topic["partitions"] for topic in await client.describe_topics(None)}
    found = {name: partitions for name, partitions in listed.items() if name in wanted}
    configs = await _read_configs(client, ConfigResourceType.TOPIC, found)
    return {name: _actual(partitions, configs[name]) for name, partitions in found.items()}


async def read_broker_configs(client: AIOKafkaAdminClient) -> dict[str, dict[str, str]]:
    """Configuration in force at each broker, by broker id.

    Raises:
        TopologyError: it may not be read.
    """
    cluster = await client.describe_cluster()
    brokers = [str(broker["node_id"]) for broker in cluster["brokers"]]
    configs = await _read_configs(client, ConfigResourceType.BROKER, brokers)
    return {
        broker: {name: value for name, (value, _) in entries.items()} for broker, entries in configs.items()
    }


async def create_topics(client: AIOKafkaAdminClient, topics: list[WantedTopic], kafka: Kafka) -> None:
    """Make the topics, and wait until each has its leaders. One made meanwhile by another is left as it is.

    Raises:
        TopologyError: the brokers refuse, with their reason.
    """
    made = [
        NewTopic(
            topic.name, topic.partitions, kafka.replication_factor, topic_configs=creation_configs(topic)
        )
        for topic in topics
    ]
    response = await client.create_topics(made)
    for name, code, *message in response.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise TopologyError(f"topic {name} cannot be made: {_reason(code, message)}")
    await _until_ready(client, {topic.name for topic in topics})


async def alter_topics(
    client: AIOKafkaAdminClient, changes: Mapping[str, Mapping[str, str]], actual: Mapping[str, ActualTopic]
) -> None:
    """Set ``changes`` by topic, and wait until they are in force.

    What else is set for a topic is written along, because the request replaces the whole.

    Raises:
        TopologyError: the brokers refuse, with their reason.
    """
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, name, actual[name].own_configs | dict(change))
        for name, change in changes.items()
    ]
    for response in await client.alter_configs(resources):
        for code, message, _, name in response.resources:
            if code:
                raise TopologyError(f"topic {name} cannot be altered: {_reason(code, [message])}")
    await _until_in_force(client, changes)


async def _read_configs(
    client: AIOKafkaAdminClient, kind: ConfigResourceType, names: Iterable[str]
) -> dict[str, dict[str, tuple[str, int]]]:
    """By resource and name of the configuration: its value and where it comes from."""
    resources = [ConfigResource(kind, name) for name in names]
    if not resources:
        return {}
    found: dict[str, dict[str, tuple[str, int]]] = {}
    for response in await client.describe_configs(resources):
        for code, message, _, name, entries in response.resources:
            if code:
                raise TopologyError(f"configuration of {name} cannot be read: {_reason(code, [message])}")
            found[name] = {entry[0]: (entry[1] or "", entry[3]) for entry in entries}
    return found


def _actual(partitions: list[dict[str, Any]], configs: Mapping[str, tuple[str, int]]) -> ActualTopic:
    ordered = sorted(partitions, key=lambda each: int(each["partition"]))
    return ActualTopic(
        partitions=[(len(each["replicas"]), len(each["isr"])) for each in ordered],
        leaderless=[each["partition"] for each in ordered if each["leader"] < 0],
        configs={name: value for name, (value, _) in configs.items()},
        own_configs={name: value for name, (value, source) in configs.items() if source == _SET_FOR_TOPIC},
    )


async def _until_ready(client: AIOKafkaAdminClient, names: set[str]) -> None:
    for _ in range(round(PATIENCE_S / _POLL_S)):
        listed = {topic["topic"]: topic["partitions"] for topic in await client.describe_topics(None)}
        names = {name for name in names if not _has_leaders(listed.get(name, []))}
        if not names:
            return
        await asyncio.sleep(_POLL_S)
    raise TopologyError(f"made, but still without leaders after {PATIENCE_S:g} s: {', '.join(sorted(names))}")


async def _until_in_force(client: AIOKafkaAdminClient, changes: Mapping[str, Mapping[str, str]]) -> None:
    # The controller answers before the brokers know.
    left = set(changes)
    for _ in range(round(PATIENCE_S / _POLL_S)):
        configs = await _read_configs(client, ConfigResourceType.TOPIC, left)
        left = {name for name in left if not _holds(configs[name], changes[name])}
        if not left:
            return
        await asyncio.sleep(_POLL_S)
    raise TopologyError(f"altered, but not in force after {PATIENCE_S:g} s: {', '.join(sorted(left))}")


def _holds(configs: Mapping[str, tuple[str, int]], change: Mapping[str, str]) -> bool:
    return all(configs[name][0] == value for name, value in change.items())


def _has_leaders(partitions: list[dict[str, Any]]) -> bool:
    return bool(partitions) and all(each["leader"] >= 0 for each in partitions)


def _reason(code: int, message: list[str | None]) -> str:
    error = for_code(code)
    return next((text for text in message if text), error.description or error.__name__)
