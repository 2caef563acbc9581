"""How long after its append a label's weights are in use, with a worker of each app at a paced load."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.contestants import Command, Run, new_run
from benchmarks.label_log import ENSEMBLE, Progress, make_topics, settings_of, worker
from benchmarks.label_paced import DELAY_S
from benchmarks.measure import RunError, cpu_seconds
from benchmarks.options import Options
from benchmarks.rows import keep
from benchmarks.servers import Servers, servers
from benchmarks.tables import Bar, bars, say, spread, table
from benchmarks.topics import drop_topics
from benchmarks.weights_used import waited
from stream_ensemble import config
from stream_ensemble.embedded.process import ChildProcess

#: Labels a second, and as many requests with four predictions each.
_RATES = (5_000, 10_000, 20_000)
_SECONDS = 15.0
#: Not counted: the first seconds of a run, and the last, whose labels may lack an answer after them.
_WARM_S, _LAST_S = 6.0, 5.0
_LIMIT_S = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")
_MOST_S = 1.0
#: Cores that others may have taken in a run by which a bar is judged.
_MOST_OTHERS = 0.1


@dataclass(frozen=True, slots=True)
class _Measured:
    """From a label's append to the first answer made with it.

    Attributes:
        unshown: labels no answer was made with: each counts as if the last answer had been.
        cores_used: by fuser, learner, broker, publisher, and whoever else was on the machine.
    """

    p50_ms: float
    p99_ms: float
    longest_ms: float
    labels: int
    unshown: int
    cores_used: tuple[float, ...]


def label_latency(options: Options) -> int:
    """Run it; returns the number of faults."""
    found: dict[int, list[_Measured]] = {rate: [] for rate in _RATES}
    faults = 0
    with servers() as servers_:
        for number, rate in [(0, max(_RATES)), *product(range(1, (options.rounds or 1) + 1), _RATES)]:
            try:
                measured = _once(servers_, rate, number, options.seconds or _SECONDS)
            except RunError as error:
                say(f"  round {number}, {rate:,} labels/s: FAILED: {error}")
                faults += 1
                continue
            if not number:
                say("  which does not count: the broker's compiler was busy")
                continue
            found[rate].append(measured)
            if options.keep_rows:
                keep("label_latency", {"rate": rate, **asdict(measured)})
    _report(found)
    return faults


def _once(servers_: Servers, rate: int, number: int, seconds: float) -> _Measured:
    run = new_run(servers_, f"label-latency-{rate}", number)
    settings = settings_of(run, run.name)
    make_topics(settings)
    topics = config.topic_names(ENSEMBLE, settings.ensembles[ENSEMBLE])
    total = int(rate * (_WARM_S + seconds + _LAST_S))
    with (
        worker(run, settings, "stream_ensemble.fuse") as fuse,
        worker(run, settings, "stream_ensemble.learn") as learn,
    ):
        # Both have taken their partitions over before anything is published.
        time.sleep(_WARM_S)
        arguments = [servers_.bootstrap, ",".join(topics.predictions), topics.feedback, str(rate), str(total)]
        publisher = Command([sys.executable, "-m", "benchmarks.label_paced", *arguments], {}).start(
            run, "paced"
        )
        pids = [fuse.pid, learn.pid, servers_.broker_pid, publisher.pid]
        cores = _cores(pids, seconds)
        _until_learned(run, settings, (fuse, learn), total)
        publisher.wait(_LIMIT_S)
    found = waited(servers_.bootstrap, topics.fused, topics.feedback, topics.weights)
    drop_topics(servers_.bootstrap, run.name)
    begin = found.appended.min() + _WARM_S
    counted = (found.appended >= begin) & (found.appended < begin + seconds - DELAY_S)
    waits, unshown = found.waits[counted], int((~found.shown[counted]).sum())
    p50, p99, longest = (np.quantile(waits, [0.5, 0.99, 1.0]) * 1000).round(1).tolist()
    say(
        f"  {run.name}: p50 {p50:.0f} ms, p99 {p99:.0f} ms, longest {longest:.0f} ms, {len(waits):,} labels, "
        f"{cores[-1]:.2f} cores used by others"
    )
    if unshown:
        say(
            f"  {unshown:,} of them had not shown when the answers ended: their times are the least they took"
        )
    return _Measured(p50, p99, longest, len(waits), unshown, cores)


def _cores(pids: Sequence[int], seconds: float) -> tuple[float, ...]:
    """CPU seconds a second of each, and of all others together, once the load is on."""
    time.sleep(_WARM_S + DELAY_S)
    before = [*map(cpu_seconds, pids), _machine_seconds()]
    time.sleep(seconds - DELAY_S)
    after = [*map(cpu_seconds, pids), _machine_seconds()]
    *own, machine = ((b - a) / (seconds - DELAY_S) for a, b in zip(before, after, strict=True))
    # The kernel counts the two in different ways.
    return tuple(round(cores, 2) for cores in (*own, max(0.0, machine - sum(own))))


def _machine_seconds() -> float:
    """CPU seconds so far of everything on this machine, and what other machines on its host took from it."""
    user, nice, system, _, _, interrupts, soft, steal = map(
        int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    )
    return (user + nice + system + interrupts + soft + steal) / _TICKS


def _until_learned(
    run: Run, settings: config.Settings, processes: Sequence[ChildProcess], total: int
) -> None:
    progress = Progress(run.servers.bootstrap, settings)
    deadline = time.monotonic() + _LIMIT_S
    while progress.now().labels < total:
        for process in processes:
            if not process.running or time.monotonic() > deadline:
                raise RunError(f"{process.name} does not get on:\n{process.output(2048)}")
        time.sleep(0.2)
    progress.close()


def _report(found: Mapping[int, Sequence[_Measured]]) -> None:
    measured = {rate: runs for rate, runs in found.items() if runs}
    rows = [
        [
            f"{rate:,}",
            *(spread([getattr(run, each) for run in runs]) for each in ("p50_ms", "p99_ms", "longest_ms")),
            *(
                f"{statistics.median(cores):.2f}"
                for cores in zip(*(run.cores_used for run in runs), strict=True)
            ),
        ]
        for rate, runs in measured.items()
    ]
    head = [
        "labels/s",
        "p50, ms",
        "p99, ms",
        "longest, ms",
        "fuser, cores",
        "learner, cores",
        "broker, cores",
        "publisher, cores",
        "others, cores",
    ]
    table(head, rows)
    quiet = {
        rate: [run for run in runs if run.cores_used[-1] <= _MOST_OTHERS] for rate, runs in measured.items()
    }
    for rate in (rate for rate, runs in quiet.items() if not runs):
        say(f"\n{rate:,}/s: others took more than {_MOST_OTHERS:g} cores; no bar is judged")
    bars(
        [
            Bar(
                f"seconds to new weights in use, p99 at {rate:,}/s",
                statistics.median(run.p99_ms for run in runs) / 1000,
                _MOST_S,
                most=True,
            )
            for rate, runs in quiet.items()
            if runs
        ]
    )
