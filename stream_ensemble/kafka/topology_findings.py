"""How the topics that exist differ from those an ensemble needs, in words, with what repairs it."""

from __future__ import annotations

from collections.abc import Iterator

from stream_ensemble.findings import Finding
from stream_ensemble.kafka.topology import DOWN_TIME_S, ActualTopic, WantedTopic, corrections, has_wrong_count

MAKE_RIGHT = "stream-ensemble topics create"


def topic_findings(topic: WantedTopic, actual: ActualTopic | None, replication_factor: int) -> list[Finding]:
    """Everything wrong with one topic, errors first."""
    if actual is None:
        return [_error(topic, "does not exist", MAKE_RIGHT)]
    return [
        *_partition_errors(topic, actual),
        *_config_errors(topic, actual),
        *_risks(topic, actual, replication_factor),
    ]


def _partition_errors(topic: WantedTopic, actual: ActualTopic) -> Iterator[Finding]:
    if has_wrong_count(topic, actual):
        count = len(actual.partitions)
        yield _error(topic, partition_problem(topic, count), partition_repair(topic, count))
    for partition in actual.leaderless:
        yield _error(
            topic, f"partition {partition} has no leader", "start the brokers that hold its replicas"
        )


def partition_problem(topic: WantedTopic, count: int) -> str:
    """Why a partition count is wrong, in words."""
    return f"has {count} partitions; ensembles.{topic.ensemble}.partitions is {topic.partitions}"


def partition_repair(topic: WantedTopic, count: int) -> str:
    """What to do about it: never a change in place, since that would move requests to other partitions."""
    return (
        f"if all topics of the ensemble have {count}, set ensembles.{topic.ensemble}.partitions = {count}; "
        f"else delete this topic while it holds nothing of worth and run `{MAKE_RIGHT}`"
    )


def _config_errors(topic: WantedTopic, actual: ActualTopic) -> Iterator[Finding]:
    for name, value in corrections(topic, actual).items():
        held = actual.configs.get(name, "not set")
        bound = "at least " if name in topic.at_least else ""
        yield _error(topic, f"{name} is {held}; expected {bound}{value}", MAKE_RIGHT)


def _risks(topic: WantedTopic, actual: ActualTopic, replication_factor: int) -> Iterator[Finding]:
    replicas = min((count for count, _ in actual.partitions), default=0)
    in_sync = min((count for _, count in actual.partitions), default=0)
    least_in_sync = int(actual.configs.get("min.insync.replicas", 1))
    if replicas < replication_factor:
        yield _warning(
            topic,
            f"has {replicas} replicas; kafka.replication_factor is {replication_factor}",
            "kafka-reassign-partitions.sh, or make the topic again while it is empty",
        )
    if in_sync < replicas:
        yield _warning(
            topic, f"only {in_sync} of {replicas} replicas are in sync", "look at the brokers that lag"
        )
    if least_in_sync > replicas:
        yield _error(
            topic,
            f"min.insync.replicas is {least_in_sync} with {replicas} replicas, so nothing can be written",
            _set(topic, f"min.insync.replicas={replicas}"),
        )
    elif replicas >= 3 and least_in_sync < 2:
        yield _warning(
            topic,
            f"min.insync.replicas is {least_in_sync}: what one broker alone acknowledged can be lost with it",
            _set(topic, "min.insync.replicas=2"),
        )
    if actual.configs.get("unclean.leader.election.enable") == "true":
        yield _warning(
            topic,
            "unclean.leader.election.enable is true: acknowledged records can be lost",
            _set(topic, "unclean.leader.election.enable=false"),
        )
    retention = int(actual.configs.get("retention.ms", -1))
    if topic.role in ("predictions", "requests") and 0 <= retention < DOWN_TIME_S * 1000:
        yield _warning(
            topic,
            f"retention.ms is {retention}: workers that are down for longer lose records",
            _set(topic, f"retention.ms={DOWN_TIME_S * 1000}"),
        )


def _set(topic: WantedTopic, config: str) -> str:
    return f"kafka-configs.sh --alter --topic {topic.name} --add-config {config}"


def _error(topic: WantedTopic, problem: str, repair: str) -> Finding:
    return Finding(level="error", subject=f"topic {topic.name}", problem=problem, repair=repair)


def _warning(topic: WantedTopic, problem: str, repair: str) -> Finding:
    return Finding(level="warning", subject=f"topic {topic.name}", problem=problem, repair=repair)
