"""What topics an ensemble needs, and what is said and done about those that exist."""

from __future__ import annotations

import msgspec
import pytest

from stream_ensemble.config import Ensemble, Settings, Task, Topics
from stream_ensemble.kafka.topology import (
    ActualTopic,
    WantedTopic,
    creation_configs,
    plan,
    wanted_topics,
    with_room_for,
)
from stream_ensemble.kafka.topology_findings import topic_findings

ENSEMBLE = Ensemble(members=["a", "b"], task=Task(classes=["no", "yes"]), partitions=2)


def settings(**topics: str) -> Settings:
    return Settings(ensembles={"e": msgspec.structs.replace(ENSEMBLE, topics=Topics(**topics))})


def right(topic: WantedTopic, replicas: int = 1) -> ActualTopic:
    """A topic that is as wanted."""
    configs = creation_configs(topic)
    return ActualTopic(
        partitions=[(replicas, replicas)] * topic.partitions,
        leaderless=[],
        configs=configs,
        own_configs=configs,
    )


def wanted(role: str) -> WantedTopic:
    (found,) = [topic for topic in wanted_topics(settings(predictions="all")) if topic.role == role]
    return found


def test_members_with_topics_of_their_own_have_one_each() -> None:
    names = [topic.name for topic in wanted_topics(settings())]
    assert names[:2] == ["e.predictions.a", "e.predictions.b"]
    assert len(names) == len(set(names)) == 9


def test_members_that_share_a_topic_need_it_once() -> None:
    assert [topic.name for topic in wanted_topics(settings(predictions="all"))].count("all") == 1


def test_an_ensemble_without_requests_needs_no_such_topic() -> None:
    assert "requests" not in {topic.role for topic in wanted_topics(settings(requests=""))}


def test_what_is_right_is_left_alone_and_not_mentioned() -> None:
    topics = wanted_topics(settings())
    actual = {topic.name: right(topic) for topic in topics}
    done = plan(topics, actual)
    assert (done.create, done.alter, done.refused) == ([], {}, [])
    assert [finding for topic in topics for finding in topic_findings(topic, actual[topic.name], 1)] == []


def test_a_plan_makes_alters_and_refuses() -> None:
    topics = wanted_topics(settings())
    actual = {topic.name: right(topic) for topic in topics}
    del actual["e.late"]
    actual["e.fused"] = msgspec.structs.replace(actual["e.fused"], configs={"cleanup.policy": "compact"})
    actual["e.weights"] = msgspec.structs.replace(actual["e.weights"], partitions=[(1, 1)] * 7)
    actual["e.dead-letter"] = msgspec.structs.replace(actual["e.dead-letter"], partitions=[(1, 1)] * 7)
    done = plan(topics, actual)
    assert [topic.name for topic in done.create] == ["e.late"]
    assert done.alter == {
        "e.fused": {
            "cleanup.policy": "delete",
            "message.timestamp.type": "LogAppendTime",
            "retention.bytes": "-1",
        }
    }
    assert [(topic.name, count) for topic, count in done.refused] == [("e.weights", 7)]


@pytest.mark.parametrize(
    ("retention_ms", "altered"),
    [("431999999", True), ("432000000", False), ("-1", False), ("9999999999", False)],
)
def test_retention_of_the_fused_topic_covers_the_horizons_and_three_days(
    retention_ms: str, altered: bool
) -> None:
    topic = wanted("fused")
    actual = right(topic)
    actual.configs["retention.ms"] = retention_ms
    assert (topic.name in plan([topic], {topic.name: actual}).alter) is altered


def test_the_dead_letter_topic_takes_the_largest_record_and_its_headers() -> None:
    topics = wanted_topics(settings())
    large = right(topics[0])
    large.configs["max.message.bytes"] = "10000000"
    (room,) = [
        topic for topic in with_room_for(topics, {topics[0].name: large}) if topic.role == "dead_letter"
    ]
    assert room.at_least == {"max.message.bytes": 10_065_536}


@pytest.mark.parametrize(
    ("change", "level", "problem"),
    [
        ({"leaderless": [1]}, "error", "partition 1 has no leader"),
        ({"partitions": [(3, 3), (3, 2)]}, "warning", "only 2 of 3 replicas are in sync"),
    ],
)
def test_partitions_in_trouble_are_named(change: dict[str, object], level: str, problem: str) -> None:
    topic = wanted("fused")
    found = topic_findings(topic, msgspec.structs.replace(right(topic, 3), **change), 1)
    assert (level, problem) in {(finding.level, finding.problem) for finding in found}


@pytest.mark.parametrize(
    ("replicas", "in_sync", "level"), [(1, "1", None), (3, "1", "warning"), (3, "2", None), (2, "3", "error")]
)
def test_replicas_and_what_must_be_in_sync_fit_together(
    replicas: int, in_sync: str, level: str | None
) -> None:
    topic = wanted("fused")
    actual = right(topic, replicas)
    actual.configs["min.insync.replicas"] = in_sync
    found = topic_findings(topic, actual, 1)
    assert [finding.level for finding in found] == ([] if level is None else [level])
    assert all("min.insync.replicas" in finding.problem for finding in found)
