"""`check --connect` and `topics create` on real servers: what is wrong is found, named and repaired."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from stream_ensemble.cli.main import main
from stream_ensemble.embedded import EmbeddedRedis

TIMEOUT_S = 20.0
ROLES = (
    "predictions.a",
    "predictions.b",
    "requests",
    "fused",
    "late",
    "feedback",
    "weights",
    "applied",
    "dead-letter",
)


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Ran]


@pytest.fixture
def command(
    kafka_bootstrap: str,
    redis_url: str,
    ensemble_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Command:
    """Runs a command on an ensemble of two members and two partitions, whose topics do not exist yet."""
    file = tmp_path / "ensemble.toml"
    file.write_text(
        f'[kafka]\nbootstrap_servers = ["{kafka_bootstrap}"]\n[redis]\nurl = "{redis_url}"\n'
        f'[ensembles.{ensemble_name}]\nmembers = ["a", "b"]\npartitions = 2\n'
        f'[ensembles.{ensemble_name}.task]\nclasses = ["no", "yes"]\n'
    )
    monkeypatch.setenv("STREAM_ENSEMBLE_CONFIG", str(file))

    def run(*arguments: str, **variables: str) -> Ran:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(f"STREAM_ENSEMBLE__{name}", value)
            code = main(arguments)
        return Ran(code, *capfd.readouterr())

    return run


@pytest.fixture
def admin(kafka_bootstrap: str) -> AdminClient:
    """librdkafka's admin client: another implementation than the one under test."""
    return AdminClient({"bootstrap.servers": kafka_bootstrap})


def set_config(admin: AdminClient, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(TIMEOUT_S)
    end = time.monotonic() + TIMEOUT_S
    while configs(admin, topic)[name] != value:  # the controller answers before the broker knows
        assert time.monotonic() < end
        time.sleep(0.02)


def configs(admin: AdminClient, topic: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    entries = admin.describe_configs([resource])[resource].result(TIMEOUT_S)
    return {name: entry.value for name, entry in entries.items()}


def topics(admin: AdminClient, prefix: str) -> dict[str, int]:
    listed = admin.list_topics(timeout=TIMEOUT_S).topics
    return {name: len(topic.partitions) for name, topic in listed.items() if name.startswith(f"{prefix}.")}


def errors(ran: Ran) -> list[dict[str, Any]]:
    return [finding for finding in json.loads(ran.out)["findings"] if finding["level"] == "error"]


def warnings(ran: Ran, subject: str) -> list[str]:
    findings = json.loads(ran.out)["findings"]
    return [each["problem"] for each in findings if each["level"] == "warning" and each["subject"] == subject]


def test_missing_topics_are_named_made_and_then_right(
    command: Command, admin: AdminClient, ensemble_name: str
) -> None:
    before = command("check", "--connect", "--json")
    assert before.code == 1
    assert {(each["subject"], each["problem"], each["repair"]) for each in errors(before)} == {
        (f"topic {ensemble_name}.{role}", "does not exist", "stream-ensemble topics create") for role in ROLES
    }
    planned = command("topics", "create", "--dry-run")
    assert planned.code == 0
    assert planned.out.count("would be made: ") == len(ROLES)
    assert topics(admin, ensemble_name) == {}, "neither check nor a dry run makes a topic"

    assert command("topics", "create").code == 0
    assert topics(admin, ensemble_name) == {f"{ensemble_name}.{role}": 2 for role in ROLES}
    after = command("check", "--connect", "--json")
    assert (after.code, errors(after)) == (0, [])
    again = command("topics", "create")
    assert (again.code, again.out) == (0, "all topics are right\n")


def test_topics_are_made_as_the_design_needs_them(
    command: Command, admin: AdminClient, ensemble_name: str
) -> None:
    command("topics", "create")
    made = {role: configs(admin, f"{ensemble_name}.{role}") for role in ROLES}
    compacted = {role for role in ROLES if made[role]["cleanup.policy"] == "compact"}
    append_timed = {role for role in ROLES if made[role]["message.timestamp.type"] == "LogAppendTime"}
    assert compacted == {"weights", "applied"}
    assert append_timed == {"predictions.a", "predictions.b", "requests", "fused", "late", "feedback"}
    five_days_ms = 5 * 86_400_000
    assert {made[role]["retention.ms"] for role in ("fused", "feedback")} == {str(five_days_ms)}
    largest = max(int(made[role]["max.message.bytes"]) for role in ROLES if role != "dead-letter")
    assert int(made["dead-letter"]["max.message.bytes"]) > largest


@pytest.mark.parametrize(
    ("role", "name", "value", "problem"),
    [
        (
            "predictions.b",
            "message.timestamp.type",
            "CreateTime",
            "message.timestamp.type is CreateTime; expected LogAppendTime",
        ),
        (
            "requests",
            "message.timestamp.type",
            "CreateTime",
            "message.timestamp.type is CreateTime; expected LogAppendTime",
        ),
        (
            "feedback",
            "message.timestamp.type",
            "CreateTime",
            "message.timestamp.type is CreateTime; expected LogAppendTime",
        ),
        (
            "late",
            "message.timestamp.type",
            "CreateTime",
            "message.timestamp.type is CreateTime; expected LogAppendTime",
        ),
        ("fused", "cleanup.policy", "compact", "cleanup.policy is compact; expected delete"),
        ("weights", "cleanup.policy", "delete", "cleanup.policy is delete; expected compact"),
        ("applied", "cleanup.policy", "compact,delete", "cleanup.policy is compact,delete; expected compact"),
        ("fused", "retention.ms", "431999999", "retention.ms is 431999999; expected at least 432000000"),
        ("feedback", "retention.bytes", "1000000", "retention.bytes is 1000000; expected -1"),
        (
            "dead-letter",
            "max.message.bytes",
            "1048588",
            "max.message.bytes is 1048588; expected at least 1114124",
        ),
    ],
)
def test_a_wrong_configuration_is_named_and_repaired_and_the_rest_is_kept(
    command: Command, admin: AdminClient, ensemble_name: str, role: str, name: str, value: str, problem: str
) -> None:
    command("topics", "create")
    topic = f"{ensemble_name}.{role}"
    set_config(admin, topic, "segment.ms", "3600000")
    set_config(admin, topic, name, value)
    found = command("check", "--connect", "--json")
    assert found.code == 1
    assert errors(found) == [
        {
            "level": "error",
            "subject": f"topic {topic}",
            "problem": problem,
            "repair": "stream-ensemble topics create",
        }
    ]
    assert command("topics", "create", "--dry-run").out.startswith(f"would be altered: {topic}: {name}=")
    assert configs(admin, topic)[name] == value

    repaired = command("topics", "create")
    assert (repaired.code, repaired.out.count("\n")) == (0, 1)
    assert command("check", "--connect").code == 0
    assert configs(admin, topic)["segment.ms"] == "3600000"


def test_longer_or_unlimited_retention_is_left_alone(
    command: Command, admin: AdminClient, ensemble_name: str
) -> None:
    command("topics", "create")
    set_config(admin, f"{ensemble_name}.fused", "retention.ms", "-1")
    set_config(admin, f"{ensemble_name}.feedback", "retention.ms", str(400 * 86_400_000))
    assert command("topics", "create").out == "all topics are right\n"
    assert configs(admin, f"{ensemble_name}.fused")["retention.ms"] == "-1"


def test_retention_follows_the_horizons(command: Command, ensemble_name: str) -> None:
    command("topics", "create")
    horizon = {f"ENSEMBLES__{ensemble_name}__LEARNING__LABEL_HORIZON_S": "172800"}
    found = command("check", "--connect", "--json", **horizon)
    assert {each["subject"] for each in errors(found)} == {
        f"topic {ensemble_name}.fused",
        f"topic {ensemble_name}.feedback",
    }
    assert all("expected at least 518400000" in each["problem"] for each in errors(found))


def test_the_dead_letter_topic_must_hold_the_largest_record_of_the_others(
    command: Command, admin: AdminClient, ensemble_name: str
) -> None:
    command("topics", "create")
    set_config(admin, f"{ensemble_name}.predictions.a", "max.message.bytes", "5000000")
    (error,) = errors(command("check", "--connect", "--json"))
    assert error["subject"] == f"topic {ensemble_name}.dead-letter"
    assert error["problem"].endswith("expected at least 5065536")
    command("topics", "create")
    assert configs(admin, f"{ensemble_name}.dead-letter")["max.message.bytes"] == "5065536"


def test_another_partition_count_is_named_and_never_changed(
    command: Command, admin: AdminClient, ensemble_name: str
) -> None:
    topic = f"{ensemble_name}.fused"
    own = {"message.timestamp.type": "LogAppendTime", "retention.ms": "-1"}
    made = [NewTopic(topic, 3, 1, config=own), NewTopic(f"{ensemble_name}.dead-letter", 1, 1)]
    for future in admin.create_topics(made, operation_timeout=TIMEOUT_S).values():
        future.result(TIMEOUT_S)
    created = command("topics", "create")
    assert created.code == 1
    assert f"topic {topic} has 3 partitions; ensembles.{ensemble_name}.partitions is 2" in created.err
    assert "left as it is" in created.err
    counts = topics(admin, ensemble_name)
    assert (counts.pop(topic), counts.pop(f"{ensemble_name}.dead-letter")) == (3, 1)
    assert set(counts.values()) == {2}, "the others are made all the same"

    found = command("check", "--connect", "--json")
    assert [(each["subject"], each["problem"]) for each in errors(found)] == [
        (f"topic {topic}", f"has 3 partitions; ensembles.{ensemble_name}.partitions is 2")
    ]


def test_what_is_risky_is_a_warning_and_passes(
    command: Command, admin: AdminClient, ensemble_name: str
) -> None:
    command("topics", "create")
    set_config(admin, f"{ensemble_name}.predictions.a", "retention.ms", "3600000")
    set_config(admin, f"{ensemble_name}.fused", "unclean.leader.election.enable", "true")
    found = command("check", "--connect", "--json", KAFKA__REPLICATION_FACTOR="3")
    assert found.code == 0
    assert warnings(found, f"topic {ensemble_name}.predictions.a") == [
        "has 1 replicas; kafka.replication_factor is 3",
        "retention.ms is 3600000: workers that are down for longer lose records",
    ]
    assert warnings(found, f"topic {ensemble_name}.fused")[1].startswith(
        "unclean.leader.election.enable is true"
    )


def test_more_required_in_sync_replicas_than_there_are_is_an_error(
    command: Command, admin: AdminClient, ensemble_name: str
) -> None:
    command("topics", "create")
    set_config(admin, f"{ensemble_name}.fused", "min.insync.replicas", "2")
    (error,) = errors(command("check", "--connect", "--json"))
    assert error["problem"] == "min.insync.replicas is 2 with 1 replicas, so nothing can be written"


def test_a_session_the_broker_would_refuse_is_an_error(command: Command) -> None:
    command("topics", "create")
    found = command(
        "check", "--connect", "--json", KAFKA__SESSION_TIMEOUT_S="0.9", KAFKA__HEARTBEAT_INTERVAL_S="0.3"
    )
    (error,) = errors(found)
    assert error["problem"].endswith("kafka.session_timeout_s is 0.9")


def test_too_few_brokers_for_the_replication_is_one_line(
    command: Command, admin: AdminClient, ensemble_name: str
) -> None:
    refused = command("topics", "create", KAFKA__REPLICATION_FACTOR="3")
    assert refused.code == 1
    (line,) = refused.err.splitlines()
    assert line.startswith(f"stream-ensemble: topic {ensemble_name}.predictions.a cannot be made: ")
    assert "eplication factor" in line


@pytest.fixture
def own_redis() -> Iterator[redis.Redis]:
    """A Redis that only this test changes."""
    with EmbeddedRedis(appendonly=True) as server, redis.Redis.from_url(server.url) as client:
        yield client


def test_a_redis_that_would_lose_weights_is_named(
    command: Command, own_redis: redis.Redis, redis_url: str
) -> None:
    command("topics", "create")
    port = own_redis.connection_pool.connection_kwargs["port"]
    own = {"REDIS__URL": f"redis://127.0.0.1:{port}/0"}
    assert command("check", "--connect", **own).out.endswith("all well\n")
    own_redis.config_set("maxmemory-policy", "allkeys-lru")
    own_redis.config_set("appendonly", "no")
    found = command("check", "--connect", "--json", **own)
    assert found.code == 1
    (error,) = errors(found)
    assert (
        error["problem"] == "maxmemory-policy is allkeys-lru, so weights may be evicted; expected noeviction"
    )
    assert error["repair"].startswith("redis-cli CONFIG SET maxmemory-policy noeviction")
    assert len(warnings(found, f"redis 127.0.0.1:{port}/0")) == 1


def test_a_redis_that_takes_no_writes_is_named(command: Command, own_redis: redis.Redis) -> None:
    command("topics", "create")
    port = own_redis.connection_pool.connection_kwargs["port"]
    own_redis.replicaof("127.0.0.1", 1)
    (error,) = errors(command("check", "--connect", "--json", REDIS__URL=f"redis://127.0.0.1:{port}/0"))
    assert error["problem"] == "is a slave, which takes no writes"
