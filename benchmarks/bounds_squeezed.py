"""A worker with a tenth of a core, while input goes on at three times what it then sustains."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks import duty, flow
from benchmarks.bounds_ends import ends_of
from benchmarks.bounds_watch import Look, look, watch
from benchmarks.contestants import Run, new_run
from benchmarks.job import Job, make_job
from benchmarks.load import add
from benchmarks.options import Options
from benchmarks.ours import make_topics, worker
from benchmarks.pages import partitions
from benchmarks.rows import keep
from benchmarks.servers import Servers
from benchmarks.tables import Bar, bars, say, table
from benchmarks.task import MEMBERS, PARTITIONS
from benchmarks.topics import create_topics, drop_topics
from stream_ensemble.embedded.ports import free_port
from stream_ensemble.embedded.process import ChildProcess

#: More than any run publishes.
_JOB = 3_000_000
#: Published at once, to see what the squeezed worker sustains; it then still has a part of it to do.
_AT_ONCE = 400_000
_ON_MS, _OFF_MS = 10, 90
_SETTLE_S, _SUSTAINED_S, _INPUT_S, _AFTER_S = 4.0, 12.0, 45.0, 15.0
_TIMES = 3
_LOOK_S = 1.0
_LIMIT_S = 120.0
_STOP_S = 20.0
_MOST_GROWTH = 1.25
_TOOK = "took over"


def squeezed(servers_: Servers, options: Options) -> int:
    """Run it; returns the number of faults."""
    job = make_job(_JOB)
    run = new_run(servers_, "squeezed", 0)
    create_topics(servers_.bootstrap, run.inputs)
    make_topics(run)
    port = free_port()
    with ExitStack() as stack:
        process = worker(run, port).start(run)
        stack.callback(process.stop, _STOP_S)
        _until_owning(process, port)
        squeezing = duty.command(process.pid, _ON_MS, _OFF_MS).start(run, "duty")
        stack.callback(squeezing.stop)
        add(servers_.bootstrap, part(job, _AT_ONCE), run.inputs)
        sustained = _sustained(process, port)
        seconds = options.seconds or _INPUT_S
        published = min(_JOB, _AT_ONCE + int(_TIMES * sustained / len(MEMBERS) * seconds))
        looks, input_s = _under_input(run, process, port, range(_AT_ONCE, published), sustained, seconds)
        squeezing.stop()
        total = published * len(MEMBERS)
        drained = watch(
            process, port, lambda now: now.predictions >= total and not now.open_requests, _LIMIT_S
        )
        took = process.log_file.read_text(errors="replace").count(_TOOK)
    ends = ends_of(run, part(job, published))
    drop_topics(servers_.bootstrap, run.name)
    incomplete = published - ends.statuses["complete"]
    row = {
        "name": "squeezed",
        "requests": published,
        "members": len(MEMBERS),
        "worker_cores": round(_cores(looks), 3),
        "sustained": round(sustained),
        "input": round((published - _AT_ONCE) * len(MEMBERS) / input_s),
        "input_s": round(input_s, 1),
        "begin_rss_mb": round(looks[0].rss_mb),
        "peak_rss_mb": round(max(each.rss_mb for each in looks)),
        "after_rss_mb": round(max(each.rss_mb for each in drained)),
        "lag": _lags(looks, input_s, published),
        "drained_s": round(drained[-1].at - drained[0].at, 1),
        "takeovers": took,
        "difference": drained[-1].difference,
        "missing": ends.missing,
        "twice": ends.twice,
        "incomplete": incomplete,
    }
    if options.keep_rows:
        keep("bounds", row)
    _report(row)
    return ends.faults + incomplete + drained[-1].difference + took - PARTITIONS


def part(job: Job, count: int) -> Job:
    """Its first ``count`` requests."""
    return Job(job.ids[:count], job.parts[:count])


def _until_owning(process: ChildProcess, port: int) -> None:
    watch(process, port, lambda _: len(partitions(port)) == PARTITIONS, _LIMIT_S)


def _sustained(process: ChildProcess, port: int) -> float:
    """Predictions a second it does while it has more to do."""
    time.sleep(_SETTLE_S)
    begin = look(process, port)
    time.sleep(_SUSTAINED_S)
    end = look(process, port)
    return (end.predictions - begin.predictions) / (end.at - begin.at)


def _under_input(
    run: Run, process: ChildProcess, port: int, rows: range, sustained: float, seconds: float
) -> tuple[list[Look], float]:
    """Looks while the input goes on and a while after it, and how long it went on."""
    rate = _TIMES * sustained / len(MEMBERS)
    publisher = flow.command(run.servers.bootstrap, run.inputs, _JOB, rows, rate).start(run, "flow")
    watch(process, port, lambda _: flow.began(publisher.output()), _LIMIT_S)
    began = time.monotonic()
    looks = watch(process, port, lambda _: not publisher.running, seconds + _LIMIT_S, _LOOK_S)
    input_s = time.monotonic() - began
    ending = time.monotonic() + _AFTER_S
    return looks + watch(process, port, lambda now: now.at > ending, _LIMIT_S, _LOOK_S), input_s


def _lags(looks: Sequence[Look], input_s: float, published: int) -> list[int]:
    """Predictions published and not read yet, at six moments, the last look among them."""
    begin = looks[0].at
    moments = [looks[round(n * (len(looks) - 1) / 5)] for n in range(6)]
    shares = [min(1.0, (each.at - begin) / input_s) for each in moments]
    fresh = published - _AT_ONCE
    return [
        int((_AT_ONCE + fresh * share) * len(MEMBERS)) - each.predictions
        for each, share in zip(moments, shares, strict=True)
    ]


def _cores(looks: Sequence[Look]) -> float:
    return (looks[-1].cpu_s - looks[0].cpu_s) / (looks[-1].at - looks[0].at)


def _report(row: dict[str, object]) -> None:
    names = ("worker_cores", "sustained", "input", "begin_rss_mb", "peak_rss_mb", "lag", "drained_s")
    table(names, [[str(row[name]) for name in names]])
    counts = ("missing", "twice", "incomplete", "takeovers")
    say(", ".join(f"{name} {row[name]}" for name in counts))
    growth = float(str(row["peak_rss_mb"])) / float(str(row["begin_rss_mb"]))
    bars([Bar("peak memory to that at the begin", growth, _MOST_GROWTH, most=True)])
