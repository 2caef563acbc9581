"""One worker against two of one group on the same input: cost of a prediction, and how the clock scales."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.contestants import Run, input_names, new_run
from benchmarks.job import Job, make_job
from benchmarks.load import load
from benchmarks.measure import RunError, Window, measure
from benchmarks.options import Options
from benchmarks.ours import make_topics, worker
from benchmarks.race import quotable
from benchmarks.rows import keep
from benchmarks.servers import servers
from benchmarks.tables import Bar, bars, say, spread, table
from benchmarks.task import MEMBERS
from benchmarks.topics import drop_topics
from benchmarks.verify import verify
from stream_ensemble.embedded.ports import free_port

_REQUESTS = 800_000
_ROUNDS = 3
_SECONDS = 8.0
_COUNTS = (1, 2)
_WARM_S = 2.0
#: Both workers are in the group before partitions are given out (Kafka's own default).
_BROKER = {"group.initial.rebalance.delay.ms": "3000"}
#: Cost of a prediction with two workers, in that with one.
_MOST = 1.1


@dataclass(slots=True)
class Figures:
    """Of so many workers, one number a run."""

    cpu_us: list[float] = field(default_factory=list)
    broker_us: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    window_s: list[float] = field(default_factory=list)
    #: CPU seconds of each worker in its window, by run.
    shares: list[str] = field(default_factory=list)


def workers(options: Options) -> int:
    """Run it; returns the number of faults."""
    found: dict[int, Figures] = {count: Figures() for count in _COUNTS}
    faults = 0
    with servers(_BROKER) as servers_:
        job = make_job(options.requests or _REQUESTS)
        inputs = input_names("bench")
        load(servers_.bootstrap, job, inputs, say)
        for number in range(1, (options.rounds or _ROUNDS) + 1):
            for count in _COUNTS:
                run = new_run(servers_, f"workers-{count}", number, inputs)
                try:
                    faults += _once(run, count, job, options, found[count])
                except RunError as error:
                    say(f"  round {number}, {count} workers: FAILED: {error}")
                    faults += 1
    _report(found)
    return faults


def _once(run: Run, count: int, job: Job, options: Options, figures: Figures) -> int:
    """One run of ``count`` workers; returns the faults in their output."""
    make_topics(run)
    commands = [worker(run, free_port(), number=place) for place in range(count)]
    seconds = options.seconds or _SECONDS
    window = measure(run, commands, len(job), warm_s=_WARM_S, seconds=seconds)
    checked = verify(run, job, window, complete=not window.cut)
    drop_topics(run.servers.bootstrap, run.name)
    predictions = checked.in_window * len(MEMBERS)
    figures.cpu_us.append(window.worker_cpu_s / predictions * 1e6)
    figures.broker_us.append(window.cpu_s[-1] / predictions * 1e6)
    figures.per_second.append(predictions / window.wall_s)
    figures.window_s.append(window.wall_s)
    figures.shares.append(" + ".join(f"{share:.1f}" for share in window.cpu_s[:-1]))
    say(
        f"  {run.name}: {figures.cpu_us[-1]:.2f} us a prediction, {figures.per_second[-1]:,.0f} per second, "
        f"CPU s {figures.shares[-1]}, {checked.faults} faults"
    )
    if options.keep_rows:
        keep("workers", _row(count, len(job), predictions, window, checked.as_dict()))
    return checked.faults


def _row(
    count: int, requests: int, predictions: int, window: Window, checked: Mapping[str, int]
) -> dict[str, object]:
    return {
        "workers": count,
        "requests": requests,
        "members": len(MEMBERS),
        "predictions": predictions,
        "cpu_s": [round(share, 2) for share in window.cpu_s[:-1]],
        "broker_cpu_s": round(window.cpu_s[-1], 2),
        "wall_s": round(window.wall_s, 2),
        "peak_rss_mb": round(window.peak_rss_mb),
        **checked,
    }


def _report(found: Mapping[int, Figures]) -> None:
    measured = {count: figures for count, figures in found.items() if figures.cpu_us}
    rows = [
        [
            str(count),
            spread(figures.cpu_us, ".2f"),
            spread(figures.broker_us, ".2f"),
            spread(figures.per_second),
            "; ".join(figures.shares),
        ]
        for count, figures in measured.items()
    ]
    head = ["workers", "CPU us a prediction", "broker's", "predictions per second", "CPU s of each, by run"]
    table(head, rows)
    if len(measured) == len(_COUNTS):
        one, two = (measured[count] for count in _COUNTS)
        cost = statistics.median(two.cpu_us) / statistics.median(one.cpu_us)
        speed = statistics.median(two.per_second) / statistics.median(one.per_second)
        say(f"\ntwo workers do {speed:.2f} times what one does by the clock; the broker shares their cores")
        if quotable(one.window_s + two.window_s):
            bars([Bar("cost of a prediction, two workers to one", cost, _MOST, most=True)])
