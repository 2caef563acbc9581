"""A stream through the whole system as separate processes, beside its backtest; `make replay` has recorded
ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.replay.run import BOUND, replay
from tests.replay.schedule import scheduled
from tests.replay.world import Plan

ROWS, MEMBERS, CLASSES = 3000, 4, 3


def stream(seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Members that share most of their errors, the first ones better than the last. Shapes: T x K x C, T."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, ROWS)
    skill = np.array([1.6, 1.2, 0.4, 0.2])[None, :, None] * np.eye(CLASSES)[truth][:, None]
    errors = 1.2 * rng.normal(size=(ROWS, 1, CLASSES)) + 0.2 * rng.normal(size=(ROWS, MEMBERS, CLASSES))
    chances = np.exp(skill + errors)
    return chances / chances.sum(axis=2, keepdims=True), truth


@pytest.mark.timeout(300)
def test_what_is_fused_live_under_rebalances_and_losses_is_what_the_backtest_says(
    kafka_bootstrap: str, ensemble_name: str, tmp_path: Path
) -> None:
    file = tmp_path / "stream.npz"
    P, y = stream(seed=5)
    np.savez(file, P=P, y=y)
    outcome = replay(kafka_bootstrap, ensemble_name, scheduled(file), Plan(rate=150.0, delay=500))
    report = "\n".join([*outcome.lines(), *outcome.violations, f"logs: {outcome.folder}"])
    assert not outcome.violations, report
    assert outcome.losses is not None
    # In so short a stream a second more until a label is in use is more than 1% of the loss, so this is held
    # against labels as late as they were; how late they may be, beside that.
    assert abs(outcome.losses.live / outcome.losses.as_late - 1) <= BOUND, report
    assert outcome.losses.live < 0.95 * outcome.losses.uniform, report
    assert outcome.late < 3 * outcome.plan.rate, report
    assert outcome.statuses["complete"] > ROWS / 2, report
    assert outcome.statuses["partial (silent)"] > ROWS / 10, report
