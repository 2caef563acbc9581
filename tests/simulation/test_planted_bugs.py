"""The simulation finds bugs: every planted one makes some schedule fail."""

from __future__ import annotations

import pytest

from tests.simulation.bugs import BUGS, planted
from tests.simulation.run import Schedule, run


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    bug = BUGS[name]
    for number in range(bug.most):
        schedule = bug.like(number)
        with planted(bug):
            found = run(schedule).violations
        if found:
            # Those of any kind are run without a bug elsewhere.
            assert bug.like is Schedule or run(schedule).violations == []
            return
    pytest.fail(f"{bug.most} schedules did not find it")
