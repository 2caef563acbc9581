"""A short chaos run as part of ``make test``; ``make chaos`` has the long ones."""

from __future__ import annotations

import pytest

from tests.chaos.run import run
from tests.chaos.schedule import short_schedule


@pytest.mark.timeout(240)
def test_killed_and_frozen_workers_a_broker_restarted_and_redis_emptied_lose_and_repeat_nothing() -> None:
    schedule = short_schedule(1)
    outcome = run(schedule)
    report = "\n".join([str(schedule), *outcome.lines()])
    assert not outcome.violations, "\n".join(
        [report, *outcome.violations, f"logs and topics: {outcome.folder}"]
    )
    assert outcome.ledger.counts["requests"] > 1000, report
    assert outcome.ledger.counts["n"] > 300, report
