"""The recorded streams as each column of the tables has them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from stream_ensemble.cli.backtest.conditions import delay, drifted, missing, scheduled
from stream_ensemble.cli.backtest.files import read
from stream_ensemble.cli.backtest.recording import checked
from stream_ensemble.core.learning.backtest import Stream
from stream_ensemble.core.learning.losses import Loss


class Schedule(NamedTuple):
    """One column of the table: when labels come, and what goes wrong meanwhile."""

    name: str
    delay: str
    drift: bool = False
    missing: bool = False


SCHEDULES = (
    Schedule("0", "0"),
    Schedule("100", "100"),
    Schedule("1000", "1000"),
    Schedule("drift", "100", drift=True),
    Schedule("missing", "100", missing=True),
    Schedule("bursts", "bursts:5000"),
)


def prepared(directory: Path, file: str, loss: Loss, schedule: Schedule) -> tuple[Stream, tuple[str, ...]]:
    """The recorded stream with what goes wrong in this column, and its members."""
    recording, _ = checked(read(directory / f"{file}.npz"), loss.name, None)
    if schedule.drift:
        recording = drifted(recording, loss)
    if schedule.missing:
        recording = missing(recording, 0.3, 2)
    return scheduled(recording, delay(schedule.delay), 1.0, 0), recording.members
