"""A member's topic that may not be read for a while: its requests end without it, and all goes on after."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from stream_ensemble.embedded import EmbeddedKafka
from tests.integration.fuser_world import MEMBERS, Worker, World, ids, until
from tests.integration.shared_fuser import Shared, ends

HOLD_LIMIT_S = 2.0


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """A Kafka that looks at rights, and lets everybody do what nothing is said of."""
    rights = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    with EmbeddedKafka(overrides=rights) as kafka:
        yield kafka.bootstrap


def right(topic: str, operation: AclOperation, permission: AclPermissionType) -> AclBinding:
    return AclBinding(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", operation, permission
    )


def forbid_reading(admin: AdminClient, topic: str) -> None:
    wanted = [
        right(topic, AclOperation.ALL, AclPermissionType.ALLOW),
        right(topic, AclOperation.READ, AclPermissionType.DENY),
    ]
    for made in admin.create_acls(wanted).values():
        made.result()


def allow_reading(admin: AdminClient, topic: str) -> None:
    denied = AclBindingFilter(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, None, None,
        AclOperation.READ, AclPermissionType.DENY,
    )  # fmt: skip
    for removed in admin.delete_acls([denied]).values():
        assert len(removed.result()) == 1


async def test_a_member_that_cannot_be_read_is_given_up_and_its_answers_are_late_when_it_can(
    guarded: str, redis_url: str, tmp_path: Path
) -> None:
    admin = AdminClient({"bootstrap.servers": guarded})
    async with World(
        guarded, redis_url, "unreadable", tmp_path, deadline_ms=500, hold_limit_s=HOLD_LIMIT_S
    ) as world:
        worker: Worker = world.start()
        await world.owning(worker)
        shared = Shared(world, worker)
        before, during, after = ids("before", 20), ids("during", 20), ids("after", 20)
        await world.predict(before)
        assert ends(await world.fused_of(before)) == {("complete", None)}
        topic = world.topics.predictions[MEMBERS.index("c")]
        await asyncio.to_thread(forbid_reading, admin, topic)
        await until(lambda: "may not be read" in worker.process.output(), "the worker notices")
        # c answers in time, but nobody can see it: neither its record nor the end of its topic.
        await world.predict(during)
        fused = await world.fused_of(during)
        assert ends(fused) == {("partial", "unreadable")}
        for record in fused.values():
            assert json.loads(record.value)["asleep"] == {"c": "missing"}
        assert worker.process.running
        await asyncio.to_thread(allow_reading, admin, topic)
        await until(lambda: shared.counts()["late"] == len(during), "what c said is late")
        await world.predict(after)
        assert ends(await world.fused_of(after)) == {("complete", None)}
        assert set((await world.answered_times()).values()) == {1}
