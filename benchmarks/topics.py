"""Topics of a benchmark: made with the broker's time as record time, dropped when they were read back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.task import PARTITIONS

T = TypeVar("T")
_ADMIN_LIMIT_S = 30.0
_LEADER_LIMIT_S = 10.0
#: syslog's number.
_WARNINGS = 4


def create_topics(bootstrap: str, names: Sequence[str], stamps: str = "LogAppendTime") -> None:
    """Make topics of ``PARTITIONS`` partitions that keep everything.

    Args:
        stamps: ``CreateTime`` where the producer says when its records were appended.
    """
    admin = _admin(bootstrap)
    config = {"message.timestamp.type": stamps, "retention.ms": "-1"}
    topics = [NewTopic(name, PARTITIONS, 1, config=config) for name in names]
    for made in admin.create_topics(topics).values():
        made.result(_ADMIN_LIMIT_S)


def drop_topics(bootstrap: str, run: str) -> None:
    """Drop every topic of a run, its changelogs included: all whose name holds the run's."""
    admin = _admin(bootstrap)
    names = [name for name in admin.list_topics(timeout=_ADMIN_LIMIT_S).topics if run in name]
    if names:
        for dropped in admin.delete_topics(names).values():
            dropped.result(_ADMIN_LIMIT_S)


def _admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": _WARNINGS})


def patiently(look: Callable[[], T]) -> T:
    """What ``look`` gives, once the topic just made has a leader."""
    deadline = time.monotonic() + _LEADER_LIMIT_S
    while True:
        try:
            return look()
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
