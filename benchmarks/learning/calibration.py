"""What calibration gives on the recorded streams of classes: errors and losses, before and after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.learning.streams import SCHEDULES, Schedule, prepared
from stream_ensemble.core.evaluation.classification import calibration_error, log_loss
from stream_ensemble.core.learning.additive import Additive
from stream_ensemble.core.learning.backtest import play
from stream_ensemble.core.learning.bank import Bank
from stream_ensemble.core.learning.calibrated_play import play_calibrated
from stream_ensemble.core.learning.losses import LogLoss
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.core.learning.uniform import uniform


class Calibration(NamedTuple):
    """One line of the table."""

    stream: str
    algorithm: str
    make: Callable[[tuple[str, ...]], Additive]


LINES = tuple(
    Calibration(stream, name, make)
    for stream in ("letter", "weather")
    for name, make in (("bank", Bank), ("ml_poly", lambda m: MLPoly(m, 500.0)), ("uniform", uniform))
)
#: Where the error has to be at most half of what it was and of uniform's, and the loss no larger.
HELD = "letter"


def measure(directory: Path, line: Calibration, schedule: Schedule) -> dict[str, Any]:
    """One cell of the table, as a row."""
    stream, members = prepared(directory, line.stream, LogLoss(), schedule)
    before = play(stream, line.make(members), LogLoss()).fused
    after = play_calibrated(stream, before).fused
    even = play(stream, uniform(members), LogLoss()).fused
    return {
        "stream": line.stream,
        "algorithm": line.algorithm,
        "schedule": schedule.name,
        "error": calibration_error(before, stream.labels),
        "error_calibrated": calibration_error(after, stream.labels),
        "error_uniform": calibration_error(even, stream.labels),
        "loss": log_loss(before, stream.labels),
        "loss_calibrated": log_loss(after, stream.labels),
    }


def misses(row: dict[str, Any]) -> bool:
    """Is this above its bar?"""
    if row["stream"] != HELD:
        return False
    most = 0.5 * min(row["error"], row["error_uniform"])
    return bool(row["error_calibrated"] > most or row["loss_calibrated"] > row["loss"])


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown: the error before and after, and the log loss."""
    lines = ["| | " + " | ".join(s.name for s in SCHEDULES) + " |", "|---" * (len(SCHEDULES) + 1) + "|"]
    for line in LINES:
        mine = [row for row in rows if (row["stream"], row["algorithm"]) == (line.stream, line.algorithm)]
        lines.append(f"| {line.stream}, {line.algorithm} | " + " | ".join(map(_cell, mine)) + " |")
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    error = f"{row['error']:.4f} → {row['error_calibrated']:.4f}"
    return f"{error}; {row['loss']:.4f} → {row['loss_calibrated']:.4f}"
