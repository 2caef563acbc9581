"""A worker's memory and counts while it works, looked at again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.measure import RunError, cpu_seconds, rss_mb
from benchmarks.pages import page, total
from stream_ensemble.embedded.process import ChildProcess

_LOOK_S = 0.25
_FATES = ("used", "late", "unneeded", "duplicate", "dead_lettered", "held")


class Look(NamedTuple):
    """At monotonic ``at`` (s): resident MB, CPU seconds so far, and what ``/metrics`` says."""

    at: float
    rss_mb: float
    cpu_s: float
    open_requests: int
    predictions: int
    ended: int
    difference: int


def look(process: ChildProcess, port: int) -> Look:
    """Now.

    Raises:
        RunError: it has ended.
    """
    if not process.running:
        raise RunError(f"{process.name} ended by itself:\n{process.output(2048)}")
    lines = page(port)
    fates = [total(lines, "stream_ensemble_predictions_total", fate=fate) for fate in _FATES]
    counts = (
        total(lines, "stream_ensemble_open_requests"),
        sum(fates),
        total(lines, "stream_ensemble_requests_total"),
        total(lines, "stream_ensemble_ledger_difference"),
    )
    return Look(time.monotonic(), rss_mb(process.pid), cpu_seconds(process.pid), *map(int, counts))


def watch(
    process: ChildProcess, port: int, done: Callable[[Look], bool], limit_s: float, each_s: float = _LOOK_S
) -> list[Look]:
    """Looks until ``done``.

    Raises:
        RunError: that did not come within ``limit_s``, or the process ended.
    """
    deadline = time.monotonic() + limit_s
    looks = [look(process, port)]
    while not done(looks[-1]):
        if time.monotonic() > deadline:
            raise RunError(f"{process.name} does not get on: {looks[-1]}\n{process.output(2048)}")
        time.sleep(each_s)
        looks.append(look(process, port))
    return looks


def quarter(looks: Sequence[Look]) -> Look:
    """The first look by which a quarter of all predictions was read."""
    return next(each for each in looks if each.predictions >= looks[-1].predictions / 4)
