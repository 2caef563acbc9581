"""The topics an ensemble needs, and what makes those that exist right.

No I/O here: ``admin.py`` reads and changes the brokers' topics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from stream_ensemble.config import Ensemble, Settings, topic_names

#: The longest down time that costs nothing, in seconds: what is retained beyond the horizons.
DOWN_TIME_S = 259_200
#: What a dead-letter record's headers may add to the record it holds, in bytes.
HEADER_ROOM = 65_536
#: ``max.message.bytes`` of a topic for which nobody set it.
BROKER_MESSAGE_BYTES = 1_048_588

Role = Literal["predictions", "requests", "fused", "late", "feedback", "weights", "applied", "dead_letter"]
_APPEND_TIMED = ("predictions", "requests", "fused", "late", "feedback")
_COMPACTED = ("weights", "applied")
_REPLAYED = ("fused", "feedback")


class WantedTopic(Struct, frozen=True, kw_only=True):
    """A topic as the settings need it."""

    name: str
    ensemble: str
    role: Role
    partitions: int
    #: Whether it must have exactly so many, because partition p of one topic belongs to p of the others.
    copartitioned: bool
    #: Configuration that must be so.
    exact: dict[str, str]
    #: Configuration that must be so or larger; -1 is unlimited.
    at_least: dict[str, int]


class ActualTopic(Struct, frozen=True, kw_only=True):
    """A topic as the brokers have it."""

    #: Replicas and in-sync replicas of each partition.
    partitions: list[tuple[int, int]]
    leaderless: list[int]
    #: Every configuration in force, and those set for this topic.
    configs: dict[str, str]
    own_configs: dict[str, str]


def wanted_topics(settings: Settings) -> list[WantedTopic]:
    """All topics of all ensembles, in the order in which they are told."""
    return [topic for name, ensemble in settings.ensembles.items() for topic in _of_ensemble(name, ensemble)]


def _of_ensemble(name: str, ensemble: Ensemble) -> Iterator[WantedTopic]:
    names = topic_names(name, ensemble)
    horizons_s = ensemble.learning.label_horizon_s + ensemble.learning.orphan_horizon_s
    retention_ms = round((horizons_s + DOWN_TIME_S) * 1000)
    each: list[tuple[Role, str]] = [("predictions", topic) for topic in dict.fromkeys(names.predictions)]
    each += [("requests", names.requests)] if names.requests else []
    each += [("fused", names.fused), ("late", names.late), ("feedback", names.feedback)]
    each += [("weights", names.weights), ("applied", names.applied), ("dead_letter", names.dead_letter)]
    for role, topic in each:
        exact = {"cleanup.policy": "compact" if role in _COMPACTED else "delete"}
        if role in _APPEND_TIMED:
            exact["message.timestamp.type"] = "LogAppendTime"
        if role in _REPLAYED:
            exact["retention.bytes"] = "-1"
        at_least = {"retention.ms": retention_ms} if role in _REPLAYED else {}
        if role == "dead_letter":
            at_least["max.message.bytes"] = BROKER_MESSAGE_BYTES + HEADER_ROOM
        yield WantedTopic(
            name=topic,
            ensemble=name,
            role=role,
            partitions=ensemble.partitions,
            copartitioned=role != "dead_letter",
            exact=exact,
            at_least=at_least,
        )


def with_room_for(wanted: list[WantedTopic], actual: Mapping[str, ActualTopic]) -> list[WantedTopic]:
    """``wanted`` with dead-letter topics that hold the largest record their ensemble's topics take."""
    return [
        replace(
            topic,
            at_least={"max.message.bytes": _largest_record(topic.ensemble, wanted, actual) + HEADER_ROOM},
        )
        if topic.role == "dead_letter"
        else topic
        for topic in wanted
    ]


def _largest_record(ensemble: str, wanted: list[WantedTopic], actual: Mapping[str, ActualTopic]) -> int:
    inputs = [topic.name for topic in wanted if topic.ensemble == ensemble and topic.role != "dead_letter"]
    sizes = [int(actual[name].configs.get("max.message.bytes", 0)) for name in inputs if name in actual]
    return max([BROKER_MESSAGE_BYTES, *sizes])


def creation_configs(topic: WantedTopic) -> dict[str, str]:
    """What to set on a topic that is made."""
    return topic.exact | {name: str(least) for name, least in topic.at_least.items()}


def has_wrong_count(topic: WantedTopic, actual: ActualTopic) -> bool:
    return topic.copartitioned and len(actual.partitions) != topic.partitions


def corrections(topic: WantedTopic, actual: ActualTopic) -> dict[str, str]:
    """Configuration of an existing topic that must change, by name."""
    wrong = {name: value for name, value in topic.exact.items() if actual.configs.get(name) != value}
    for name, least in topic.at_least.items():
        held = int(actual.configs.get(name, least))
        if held != -1 and held < least:
            wrong[name] = str(least)
    return wrong


class Plan(Struct, frozen=True, kw_only=True):
    """What `topics create` would do."""

    create: list[WantedTopic]
    #: Configuration to change, by topic.
    alter: dict[str, dict[str, str]]
    #: Topics with another partition count, and that count.
    refused: list[tuple[WantedTopic, int]]


def plan(wanted: list[WantedTopic], actual: Mapping[str, ActualTopic]) -> Plan:
    """What is missing is made and what is set wrong is set right; a partition count is never changed.

    Another count would send the records of a request that is under way to other partitions.
    """
    existing = [(topic, actual[topic.name]) for topic in wanted if topic.name in actual]
    return Plan(
        create=[topic for topic in wanted if topic.name not in actual],
        alter={topic.name: wrong for topic, found in existing if (wrong := corrections(topic, found))},
        refused=[
            (topic, len(found.partitions)) for topic, found in existing if has_wrong_count(topic, found)
        ],
    )
