"""``python -m benchmarks.learning --streams DIR``: the table of README.md, and the rows it is made of.

DIR holds letter.npz, weather.npz and bike.npz: P (T x K or T x K x C), y (T).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.additive import Additive
from stream_ensemble.core.learning.backtest import Stream, delayed, in_bursts, play
from stream_ensemble.core.learning.bank import LINEAR_ARMS, Bank
from stream_ensemble.core.learning.fixed import uniform
from stream_ensemble.core.learning.losses import Absolute, LogLoss, Loss

HERE = Path(__file__).parent


class Contest(NamedTuple):
    """One line of the table."""

    name: str
    file: str
    loss: Loss
    make: Callable[[tuple[str, ...]], Additive]


class Schedule(NamedTuple):
    """One column of the table: when labels come, and what goes wrong meanwhile."""

    name: str
    arrival: Callable[[int], NDArray[np.int64]]
    drift: bool = False
    missing: bool = False


CONTESTS = (
    Contest("letter, log (means only)", "letter", LogLoss(), lambda m: Bank(m, arms=LINEAR_ARMS)),
    Contest("letter, log (default)", "letter", LogLoss(), Bank),
    Contest("weather, log", "weather", LogLoss(), Bank),
    Contest("bike, absolute", "bike", Absolute(), lambda m: Bank(m, Absolute())),
)
SCHEDULES = (
    Schedule("0", lambda t: delayed(t, 0)),
    Schedule("100", lambda t: delayed(t, 100)),
    Schedule("1000", lambda t: delayed(t, 1000)),
    Schedule("drift", lambda t: delayed(t, 100), drift=True),
    Schedule("missing", lambda t: delayed(t, 100), missing=True),
    Schedule("bursts", lambda t: in_bursts(t, 5000)),
)
#: The figures to be at or below, by line and column.
BARS = {
    "letter, log (means only)": {"100": 0.665, "1000": 0.676},
    "letter, log (default)": {"100": 0.505, "1000": 0.520, "drift": 0.520, "missing": 0.595},
    "weather, log": {"100": 0.436, "1000": 0.440},
    "bike, absolute": {"0": 33.5, "100": 39.4, "1000": 40.6, "drift": 40.5, "missing": 42.2},
}


def prepared(directory: Path, contest: Contest, schedule: Schedule) -> Stream:
    """The recorded stream with what goes wrong in this column."""
    with np.load(directory / f"{contest.file}.npz") as data:
        outputs, y = data["P"].astype(np.float64), data["y"]
    outputs = outputs if outputs.ndim == 3 else outputs[..., None]
    rows, k = outputs.shape[:2]
    if schedule.drift:
        means = np.mean(_member_losses(contest.loss, outputs, y), axis=0)
        ranked = np.argsort(means)
        swapped = np.empty(k, np.intp)
        swapped[ranked] = ranked[::-1]
        outputs[rows // 2 :] = outputs[rows // 2 :, swapped]
    awake = np.ones((rows, k), np.bool_)
    if schedule.missing:
        awake = np.random.default_rng(2).random((rows, k)) > 0.3
        awake[~awake.any(axis=1), 0] = True
    return Stream(np.where(awake[..., None], outputs, 0.0), awake, y, schedule.arrival(rows))


def _member_losses(loss: Loss, outputs: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    columns = [loss.loss(loss.points(outputs[:, k], y), y) for k in range(outputs.shape[1])]
    return np.stack(columns, axis=1)


def measure(directory: Path, contest: Contest, schedule: Schedule) -> dict[str, object]:
    """One cell of the table, as a row."""
    stream = prepared(directory, contest, schedule)
    rows, k = stream.awake.shape
    members = tuple(f"m{i}" for i in range(k))
    began = time.perf_counter()
    played = play(stream, contest.make(members), contest.loss)
    seconds = time.perf_counter() - began
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
        "cores": os.cpu_count(),
    }


def table(rows: list[dict[str, object]]) -> str:
    """The rows as Markdown: our loss, the bar and the other clock's loss beside it."""
    lines = ["| | " + " | ".join(s.name for s in SCHEDULES) + " |", "|---" * (len(SCHEDULES) + 1) + "|"]
    for contest in CONTESTS:
        cells = [_cell(row) for row in rows if row["stream"] == contest.name]
        lines.append(f"| {contest.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: dict[str, object]) -> str:
    bar = "" if row["bar"] is None else f" (≤ {row['bar']})"
    return f"**{row['loss']:.4f}**{bar}; {row['loss_clock_request']:.4f}; uniform {row['uniform']:.4f}"


def main() -> None:
    """Measure everything, write the rows beside this file, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    parser.add_argument("--streams", type=Path, required=True, metavar="DIR")
    directory: Path = parser.parse_args().streams
    rows = [measure(directory, contest, schedule) for contest in CONTESTS for schedule in SCHEDULES]
    (HERE / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(table(rows))


if __name__ == "__main__":
    main()
