"""``python -m benchmarks.learning --streams DIR``: the tables of README.md, and the rows they are made of.

DIR holds letter.npz, weather.npz and bike.npz: P (T x K or T x K x C), y (T).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.learning import calibration
from benchmarks.learning.streams import SCHEDULES, Schedule, prepared
from stream_ensemble.core.learning.additive import Additive
from stream_ensemble.core.learning.backtest import play
from stream_ensemble.core.learning.bank import LINEAR_ARMS, Bank
from stream_ensemble.core.learning.losses import Absolute, LogLoss, Loss
from stream_ensemble.core.learning.uniform import uniform

HERE = Path(__file__).parent


class Contest(NamedTuple):
    """One line of the table."""

    name: str
    file: str
    loss: Loss
    make: Callable[[tuple[str, ...]], Additive]


CONTESTS = (
    Contest("letter, log (means only)", "letter", LogLoss(), lambda m: Bank(m, arms=LINEAR_ARMS)),
    Contest("letter, log (default)", "letter", LogLoss(), Bank),
    Contest("weather, log", "weather", LogLoss(), Bank),
    Contest("bike, absolute", "bike", Absolute(), lambda m: Bank(m, Absolute())),
)
#: The figures to be at or below, by line and column.
BARS = {
    "letter, log (means only)": {"100": 0.665, "1000": 0.676},
    "letter, log (default)": {"100": 0.505, "1000": 0.520, "drift": 0.520, "missing": 0.595},
    "weather, log": {"100": 0.436, "1000": 0.440},
    "bike, absolute": {"0": 33.5, "100": 39.4, "1000": 40.6, "drift": 40.5, "missing": 42.2},
}


def measure(directory: Path, contest: Contest, schedule: Schedule) -> dict[str, Any]:
    """One cell of the table, as a row."""
    stream, members = prepared(directory, contest.file, contest.loss, schedule)
    rows = len(stream.labels)
    began = time.perf_counter()
    played = play(stream, contest.make(members), contest.loss)
    seconds = time.perf_counter() - began
    by_request = played
    # At delay 0 the labels learned are the requests made.
    if schedule.delay != "0":
        by_request = play(stream, contest.make(members), contest.loss, clocks=np.arange(rows))
    return {
        "stream": contest.name,
        "schedule": schedule.name,
        "loss": float(played.losses.mean()),
        "loss_clock_request": float(by_request.losses.mean()),
        "uniform": float(play(stream, uniform(members), contest.loss).losses.mean()),
        "bar": BARS[contest.name].get(schedule.name),
        "labels": played.n,
        "seconds": round(seconds, 3),
        "labels_per_second": round(played.n / seconds),
        "cores": os.cpu_count(),
    }


def is_above(row: dict[str, Any]) -> bool:
    """Is the loss above its bar, or above the plain average's?"""
    return row["loss"] > min(row["bar"] or np.inf, row["uniform"])


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown: our loss, the bar and the other clock's loss beside it."""
    lines = ["| | " + " | ".join(s.name for s in SCHEDULES) + " |", "|---" * (len(SCHEDULES) + 1) + "|"]
    for contest in CONTESTS:
        cells = [_cell(row) for row in rows if row["stream"] == contest.name]
        lines.append(f"| {contest.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    bar = "" if row["bar"] is None else f" (≤ {row['bar']})"
    return f"**{row['loss']:.4f}**{bar}; {row['loss_clock_request']:.4f}; uniform {row['uniform']:.4f}"


def main() -> None:
    """Measure everything, write the rows beside this file, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    parser.add_argument("--streams", type=Path, required=True, metavar="DIR")
    directory: Path = parser.parse_args().streams
    if absent := [c.file for c in CONTESTS if not (directory / f"{c.file}.npz").is_file()]:
        parser.error(f"{directory} lacks {', '.join(sorted(set(absent)))}.npz")
    rows = [measure(directory, contest, schedule) for contest in CONTESTS for schedule in SCHEDULES]
    (HERE / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(table(rows))
    calibrated = [calibration.measure(directory, line, s) for line in calibration.LINES for s in SCHEDULES]
    (HERE / "calibration.jsonl").write_text("".join(json.dumps(row) + "\n" for row in calibrated))
    print(calibration.table(calibrated))
    above = [f"{row['stream']} at {row['schedule']}" for row in rows if is_above(row)]
    above += [
        f"calibration of {row['algorithm']} on {row['stream']} at {row['schedule']}"
        for row in calibrated
        if calibration.misses(row)
    ]
    if above:
        sys.exit(f"above a bar or above uniform: {', '.join(above)}")
    print("every bar is met, and nothing is above uniform")


if __name__ == "__main__":
    main()
