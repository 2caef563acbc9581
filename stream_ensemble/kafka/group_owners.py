"""Who in a consumer group owns which partition of a topic, as the coordinator knows it."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import for_code


async def owners_of(client: AIOKafkaAdminClient, group_id: str, topic: str) -> dict[int, str] | None:
    """By partition of ``topic``, the address of the member that owns it; None while the group decides.

    Raises:
        KafkaError: the coordinator does not answer.
    """
    (response,) = await client.describe_consumer_groups([group_id])
    ((code, _, state, _, _, members, *_),) = response.groups
    if code:
        raise for_code(code)
    if state in ("Empty", "Dead"):
        return {}
    if state != "Stable":
        return None
    return {
        tp.partition: host.lstrip("/")
        for _, _, host, _, raw in members
        if raw
        for tp in ConsumerProtocolMemberAssignment.decode(raw).partitions()
        if tp.topic == topic
    }
