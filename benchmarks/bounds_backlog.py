"""A backlog in which one member answered an hour before the others, read with a short and a long deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.bounds_ends import ends_of
from benchmarks.bounds_watch import Look, quarter, watch
from benchmarks.contestants import input_names, new_run
from benchmarks.job import Job, make_job, orders
from benchmarks.load import Loader
from benchmarks.options import Options
from benchmarks.ours import Settings, make_topics, worker
from benchmarks.rows import keep
from benchmarks.servers import Servers
from benchmarks.tables import Bar, bars, say, table
from benchmarks.task import MEMBERS, PARTITIONS
from benchmarks.topics import create_topics, drop_topics
from benchmarks.values import id_list, json_values
from stream_ensemble.embedded.ports import free_port

_REQUESTS = 1_250_000
_AHEAD_S = 3600
#: The log was written at so many requests a second.
_RATE = 2_000
#: Requests of one append time; the members take turns at this grain.
_BLOCK = 2_000
_LIMIT_S = 200.0
_STOP_S = 20.0
_MOST_GROWTH = 1.25
#: Fetches on their way may bring as many again.
_MOST_OPEN = 2.0
_INPUTS = input_names("ahead")


class _Case(NamedTuple):
    name: str
    #: Open requests of a partition.
    cap: int
    settings: Settings
    #: How all requests are to end.
    expected: str


_LONG: Settings = {"deadline_ms": 7_200_000, "lateness_horizon_s": 10_800.0}
_CASES = (
    _Case("deadline 60 s", 25_000, {"deadline_ms": 60_000}, "partial deadline"),
    _Case("deadline 2 h", 25_000, _LONG, "complete"),
)
#: Members are read in step, so that some thousand are open: a cap below that is held by holding topics.
_TIGHT = _Case("deadline 2 h, tight", 8_000, _LONG, "complete")


def backlog(servers_: Servers, options: Options) -> int:
    """Run it; returns the number of faults."""
    return _cases(servers_, options, _CASES)


def tight(servers_: Servers, options: Options) -> int:
    """The same with a cap that is reached; requests that are decided by capacity are no faults."""
    return _cases(servers_, options, (_TIGHT,))


def _cases(servers_: Servers, options: Options, cases: Sequence[_Case]) -> int:
    job = make_job(options.requests or _REQUESTS)
    load_ahead(servers_.bootstrap, job, _INPUTS, say)
    return sum(_once(servers_, job, case, keep_row=options.keep_rows) for case in cases)


def load_ahead(bootstrap: str, job: Job, inputs: tuple[str, ...], say: Callable[[str], None]) -> None:
    """All predictions; the first member's were appended an hour before the others' of the same request."""
    create_topics(bootstrap, inputs, "CreateTime")
    began = time.monotonic()
    loader = Loader(bootstrap)
    places = orders(len(job))
    first = int(time.time() - len(job) / _RATE - 60) * 1000
    for begin in range(0, len(job), _BLOCK):
        appended = first + begin * 1000 // _RATE
        made = appended - _AHEAD_S * 1000
        for k, member in enumerate(MEMBERS):
            rows = places[k][begin : begin + _BLOCK]
            ids = job.ids[rows]
            values = json_values(ids, member, job.parts[rows, k], made)
            loader.publish(inputs[k], id_list(ids), values, made if k == 0 else appended)
    loader.finish()
    say(f"loaded {len(job) * len(MEMBERS):,} predictions in {time.monotonic() - began:.0f} s")


def _once(servers_: Servers, job: Job, case: _Case, *, keep_row: bool) -> int:
    run = new_run(servers_, "backlog", 0, _INPUTS)
    make_topics(run)
    port = free_port()
    total = len(job) * len(MEMBERS)
    process = worker(run, port, {**case.settings, "max_open_requests": case.cap}).start(run)
    try:
        looks = watch(process, port, lambda now: now.predictions >= total and not now.open_requests, _LIMIT_S)
    finally:
        process.stop(_STOP_S)
    ends = ends_of(run, job)
    drop_topics(servers_.bootstrap, run.name)
    other = len(job) - ends.statuses[case.expected]
    row = {
        "name": "backlog",
        "case": case.name,
        "requests": len(job),
        "members": len(MEMBERS),
        "cap": case.cap * PARTITIONS,
        **_figures(looks),
        "statuses": dict(ends.statuses),
        "missing": ends.missing,
        "twice": ends.twice,
    }
    if keep_row:
        keep("bounds", row)
    faults = ends.faults + looks[-1].difference + (other if case in _CASES else 0)
    _report(case, row, other, faults)
    return faults


def _figures(looks: list[Look]) -> dict[str, float]:
    begin = next(each for each in looks if each.predictions)
    return {
        "drained_s": round(looks[-1].at - begin.at, 1),
        "highest_open": max(each.open_requests for each in looks),
        "quarter_rss_mb": round(quarter(looks).rss_mb),
        "peak_rss_mb": round(max(each.rss_mb for each in looks)),
        "difference": looks[-1].difference,
    }


def _report(case: _Case, row: dict[str, object], other: int, faults: int) -> None:
    say(f"\n{case.name}: {faults} faults; ended {row['statuses']}")
    names = ("drained_s", "highest_open", "quarter_rss_mb", "peak_rss_mb", "difference", "missing", "twice")
    table(names, [[f"{row[name]:,}" for name in names]])
    growth = float(str(row["peak_rss_mb"])) / float(str(row["quarter_rss_mb"]))
    bars(
        [
            Bar(
                "highest open, share of the cap",
                float(str(row["highest_open"])) / (case.cap * PARTITIONS),
                _MOST_OPEN,
                most=True,
            ),
            Bar("peak memory to that after a quarter", growth, _MOST_GROWTH, most=True),
            Bar(f"requests that did not end {case.expected}", other, 0, most=True),
        ]
    )
