"""How many labels a learner applies with a CPU second, and what a label costs with two workers of a group.

Every run reads the same fused records and labels from the beginning, under a name of its own, and must come
to the same weights.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from benchmarks.contestants import Run, new_run
from benchmarks.job import make_job
from benchmarks.label_log import ENSEMBLE, Progress, Taken, make_log, make_topics, settings_of, worker
from benchmarks.measure import RunError, cpu_seconds, rss_mb
from benchmarks.options import Options
from benchmarks.race import quotable
from benchmarks.rows import keep
from benchmarks.servers import Servers, servers
from benchmarks.tables import Bar, bars, say, spread, table
from benchmarks.task import MEMBERS, PARTITIONS
from benchmarks.topics import drop_topics
from stream_ensemble import config
from stream_ensemble.core.learning.choose import make
from stream_ensemble.core.learning.contribution import Contribution, from_bytes
from stream_ensemble.embedded.process import ChildProcess
from stream_ensemble.kafka.security import client_options
from stream_ensemble.stores.contributions import Key
from stream_ensemble.stores.weights_topic import read_topic

_REQUESTS = 400_000
_ROUNDS = 3
_COUNTS = (1, 2)
#: Both workers are in the group before partitions are given out (Kafka's own default).
_BROKER = {"group.initial.rebalance.delay.ms": "3000"}
_LOG = "labelled"
#: A worker that takes less CPU than this in so many looks waits.
_IDLE_LOOKS, _IDLE_CPU_S = 10, 0.04
_LOOK_S = 0.05
_LIMIT_S = 180.0
#: Labels a CPU second; and a label's cost with two workers, in that with one.
_LEAST, _MOST = 30_000, 1.1
#: Of the weights of two runs: sums in another order.
_TOLERANCE = 1e-9


class _Look(NamedTuple):
    at: float
    taken: Taken
    cpu: tuple[float, ...]


@dataclass(slots=True)
class _Figures:
    """Of so many workers, one number a run."""

    per_cpu_second: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    window_s: list[float] = field(default_factory=list)


def labels(options: Options) -> int:
    """Run it; returns the number of faults."""
    found: dict[int, _Figures] = {count: _Figures() for count in _COUNTS}
    faults = 0
    with servers(_BROKER) as servers_:
        job = make_job(options.requests or _REQUESTS)
        expected = _weights(make_log(servers_, job, _LOG, say))
        for number in range(1, (options.rounds or _ROUNDS) + 1):
            for count in _COUNTS:
                try:
                    faults += _once(
                        servers_, count, number, expected, found[count], keep_row=options.keep_rows
                    )
                except RunError as error:
                    say(f"  round {number}, {count} workers: FAILED: {error}")
                    faults += 1
    _report(found)
    return faults


def _once(
    servers_: Servers, count: int, number: int, expected: Contribution, figures: _Figures, *, keep_row: bool
) -> int:
    """One run of ``count`` workers; returns the labels that were not learned right."""
    run = new_run(servers_, f"labels-{count}", number)
    settings = settings_of(run, _LOG)
    make_topics(settings)
    begin, end, rss = _watched(run, settings, count, expected.n)
    faults = _faults(_weights(settings), expected)
    drop_topics(servers_.bootstrap, run.name)
    done = expected.n
    cpu = [after - before for before, after in zip(begin.cpu, end.cpu, strict=True)]
    wall = end.at - begin.at
    figures.per_cpu_second.append(done / sum(cpu[:-1]))
    figures.per_second.append(done / wall)
    figures.rss_mb.append(rss)
    figures.window_s.append(wall)
    shares = " + ".join(f"{share:.1f}" for share in cpu[:-1])
    say(
        f"  {run.name}: {figures.per_cpu_second[-1]:,.0f} labels a CPU second, "
        f"{figures.per_second[-1]:,.0f} a second for {wall:.1f} s, CPU s {shares}, {faults} faults"
    )
    if keep_row:
        row = {
            "workers": count,
            "requests": expected.n,
            "members": len(MEMBERS),
            "algorithm": settings.ensembles[ENSEMBLE].learning.algorithm,
            "labels": done,
            "cpu_s": [round(share, 2) for share in cpu[:-1]],
            "broker_cpu_s": round(cpu[-1], 2),
            "wall_s": round(wall, 2),
            "peak_rss_mb": round(rss),
            "faults": faults,
        }
        keep("labels", row)
    return faults


def _watched(run: Run, settings: config.Settings, count: int, total: int) -> tuple[_Look, _Look, float]:
    """Where the window begins and ends, and the workers' largest memory, MB."""
    progress = Progress(run.servers.bootstrap, settings)
    with ExitStack() as stack:
        processes = [
            stack.enter_context(worker(run, settings, "stream_ensemble.learn", place))
            for place in range(count)
        ]
        looks = _looks(processes, run.servers.broker_pid, progress, total)
        rss = sum(rss_mb(process.pid, "VmHWM") for process in processes)
    progress.close()
    begin = _idle(looks)
    end = next(look for look in looks if look.taken.labels >= total)
    return begin, end, rss


def _idle(looks: Sequence[_Look]) -> _Look:
    """The last look at which the workers only waited for their partitions: all their work is after it."""
    waiting = [each for each in looks if not each.taken.fused and not each.taken.labels]
    idle = [
        after
        for before, after in zip(waiting, waiting[_IDLE_LOOKS:], strict=False)
        if sum(after.cpu[:-1]) - sum(before.cpu[:-1]) <= _IDLE_CPU_S
    ]
    if not idle:
        raise RunError("no moment was seen in which the workers waited for their partitions")
    return idle[-1]


def _looks(processes: Sequence[ChildProcess], broker: int, progress: Progress, total: int) -> list[_Look]:
    pids = [*(process.pid for process in processes), broker]
    looks: list[_Look] = []
    deadline = time.monotonic() + _LIMIT_S
    while not looks or not looks[-1].taken.all_of(total):
        time.sleep(_LOOK_S)
        for process in processes:
            if not process.running or time.monotonic() > deadline:
                raise RunError(f"{process.name} does not get on:\n{process.output(2048)}")
        looks.append(_Look(time.monotonic(), progress.now(), tuple(map(cpu_seconds, pids))))
    return looks


def _weights(settings: config.Settings) -> Contribution:
    """All that was learned, from the weights topic."""
    ensemble = settings.ensembles[ENSEMBLE]
    topic = config.topic_names(ENSEMBLE, ensemble).weights
    records = asyncio.run(read_topic(client_options(settings.kafka), topic, PARTITIONS, 0))
    whole = Key(ensemble.task.name)
    parts = [
        from_bytes(stored.value)
        for key, _, stored in sorted(records, key=lambda each: each[1])
        if key == whole
    ]
    return make(ensemble.learning, ensemble.task, MEMBERS).merge(parts)


def _faults(found: Contribution, expected: Contribution) -> int:
    """Labels too many or too few; and one for each array that is not as it must be."""
    wrong = [
        name
        for name, array in expected.sums.items()
        if not np.allclose(found.sums.get(name, 0.0), array, rtol=_TOLERANCE, atol=_TOLERANCE)
    ]
    return abs(found.n - expected.n) + len(wrong)


def _report(found: Mapping[int, _Figures]) -> None:
    measured = {count: figures for count, figures in found.items() if figures.window_s}
    rows = [
        [str(count), spread(each.per_cpu_second), spread(each.per_second), f"{max(each.rss_mb):,.0f}"]
        for count, each in measured.items()
    ]
    table(["workers", "labels per CPU second", "per second", "peak RSS, MB"], rows)
    if len(measured) == len(_COUNTS) and quotable(s for each in measured.values() for s in each.window_s):
        one, two = (statistics.median(measured[count].per_cpu_second) for count in _COUNTS)
        bars(
            [
                Bar("labels per CPU second", one, _LEAST),
                Bar("cost of a label, two workers to one", one / two, _MOST, most=True),
            ]
        )
