"""The brokers' limits against what the workers need."""

from __future__ import annotations

import pytest

from stream_ensemble.config import Kafka
from stream_ensemble.kafka.broker_findings import broker_findings

DEFAULTS = {
    "group.min.session.timeout.ms": "6000",
    "group.max.session.timeout.ms": "1800000",
    "transactional.id.expiration.ms": "604800000",
    "producer.id.expiration.ms": "86400000",
}


def test_a_broker_with_kafkas_defaults_is_right() -> None:
    assert broker_findings({"1": DEFAULTS}, Kafka()) == []


def test_a_broker_that_does_not_say_is_taken_as_right() -> None:
    assert broker_findings({"1": {}}, Kafka()) == []


@pytest.mark.parametrize("session_s", [5.9, 1801.0])
def test_a_session_outside_the_brokers_bounds_is_an_error(session_s: float) -> None:
    (finding,) = broker_findings({"7": DEFAULTS}, Kafka(session_timeout_s=session_s))
    assert (finding.level, finding.subject) == ("error", "broker 7")
    assert "takes sessions of 6000 to 1800000 ms" in finding.problem


@pytest.mark.parametrize("name", ["transactional.id.expiration.ms", "producer.id.expiration.ms"])
def test_a_broker_that_forgets_owners_too_soon_is_an_error(name: str) -> None:
    (finding,) = broker_findings({"1": DEFAULTS | {name: "43199999"}}, Kafka())
    assert finding.problem.startswith(f"{name} is 43199999")
    assert broker_findings({"1": DEFAULTS | {name: "43200000"}}, Kafka()) == []


@pytest.mark.parametrize(
    ("brokers", "factor", "warned"), [(1, 1, False), (2, 1, False), (3, 1, True), (3, 3, False)]
)
def test_fewer_copies_than_the_brokers_allow_is_a_warning(brokers: int, factor: int, warned: bool) -> None:
    found = broker_findings({str(n): DEFAULTS for n in range(brokers)}, Kafka(replication_factor=factor))
    assert [finding.level for finding in found] == (["warning"] if warned else [])
