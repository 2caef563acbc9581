"""What an open request costs: memory each, and what a million of them do to the join's speed.

Every request of the first part of the input lacks one member's answer, in turns, and stays open. Memory is
measured against a control that reads as many records of the same size but keeps few requests open: their
answers come again and again. Speed is measured on a second part that is complete, alone and behind the first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from benchmarks.contestants import input_names, new_run
from benchmarks.job import make_job
from benchmarks.load import add
from benchmarks.measure import RunError
from benchmarks.open_memory import Memory, memory_after_reading
from benchmarks.options import Options
from benchmarks.ours import Settings, ours
from benchmarks.race import CELLS, Course, Results, once, quotable
from benchmarks.rows import keep
from benchmarks.servers import Servers, servers
from benchmarks.tables import Bar, bars, say, table
from benchmarks.task import MEMBERS
from benchmarks.topics import create_topics, drop_topics

_OPEN = 1_000_000
_MEMORY_ROUNDS, _SPEED_ROUNDS = 1, 3
_SECONDS = 8.0
#: The second part has so many requests for each open one.
_COMPLETE_SHARE = 0.4
#: The control repeats its requests' answers so many times.
_REPEATS = 100
_SETTINGS: Settings = {
    "deadline_ms": 3_600_000,
    "lateness_horizon_s": 86_400.0,
    "max_open_requests": 4 * _OPEN,
}
_MOST_BYTES = 600.0
_MOST_SLOWING = 0.2
_BEHIND, _CONTROL, _ALONE = (input_names(name) for name in ("behind", "control", "alone"))


@dataclass(slots=True)
class Figures:
    """One number a run."""

    bytes_each: list[float] = field(default_factory=list)
    peak_bytes_each: list[float] = field(default_factory=list)
    alone: Results = field(default_factory=Results)
    behind: Results = field(default_factory=Results)


def open_requests(options: Options) -> int:
    """Run it; returns the number of faults."""
    figures = Figures()
    with servers() as servers_:
        try:
            faults = _measure(servers_, options, figures)
        except RunError as error:
            say(f"  FAILED: {error}")
            return 1
    table(["join", *CELLS], [["alone", *figures.alone.cells()], ["behind", *figures.behind.cells()]])
    if quotable(figures.alone.window_s + figures.behind.window_s):
        slowing = 1 - figures.behind.median / figures.alone.median
        bars(
            [
                Bar("bytes an open request", median(figures.bytes_each), _MOST_BYTES, most=True),
                Bar("slowing by open requests", slowing, _MOST_SLOWING, most=True),
            ]
        )
    return faults


def _measure(servers_: Servers, options: Options, figures: Figures) -> int:
    count = options.requests or _OPEN
    for inputs in (_BEHIND, _CONTROL, _ALONE):
        create_topics(servers_.bootstrap, inputs)
    records = _load_first(servers_, count)
    for number in range(1, (options.rounds or _MEMORY_ROUNDS) + 1):
        _compare_memory(servers_, number, records, options, figures)
    return _compare_speed(servers_, count, options, figures)


def _load_first(servers_: Servers, count: int) -> int:
    """The open requests and the control; returns the records of each."""
    add(servers_.bootstrap, make_job(count), _BEHIND, incomplete=True)
    few = make_job(count // _REPEATS)
    add(servers_.bootstrap, few, _CONTROL, incomplete=True, times=_REPEATS)
    records = count // _REPEATS * _REPEATS * (len(MEMBERS) - 1)
    say(f"loaded {records:,} predictions that complete nothing, twice")
    return records


def _compare_memory(servers_: Servers, number: int, records: int, options: Options, figures: Figures) -> None:
    many = _memory(servers_, "open", number, _BEHIND, records)
    few = _memory(servers_, "control", number, _CONTROL, records)
    more = many.open_requests - few.open_requests
    figures.bytes_each.append((many.rss_mb - few.rss_mb) * 2**20 / more)
    figures.peak_bytes_each.append((many.peak_rss_mb - few.peak_rss_mb) * 2**20 / more)
    say(
        f"  round {number}: {many.open_requests:,} open {many.rss_mb:,.0f} MB, {few.open_requests:,} open "
        f"{few.rss_mb:,.0f} MB: {figures.bytes_each[-1]:.0f} bytes each (by the peaks "
        f"{figures.peak_bytes_each[-1]:.0f})"
    )
    if options.keep_rows:
        row = {"open": many._asdict(), "control": few._asdict(), "bytes_each": figures.bytes_each[-1]}
        keep("open", {"name": "memory", "records": records, **row})


def _memory(servers_: Servers, name: str, number: int, inputs: tuple[str, ...], records: int) -> Memory:
    run = new_run(servers_, name, number, inputs)
    found = memory_after_reading(run, records, _SETTINGS)
    drop_topics(servers_.bootstrap, run.name)
    return found


def _compare_speed(servers_: Servers, count: int, options: Options, figures: Figures) -> int:
    """Returns the faults in the outputs."""
    job = make_job(int(count * _COMPLETE_SHARE), seed=8)
    what = "open" if options.keep_rows else ""
    faults = 0
    for inputs in (_ALONE, _BEHIND):
        add(servers_.bootstrap, job, inputs)
    for number in range(1, (options.rounds or _SPEED_ROUNDS) + 1):
        for name, inputs, still_open in (("alone", _ALONE, 0), ("behind", _BEHIND, count)):
            facts = {"open_requests": still_open}
            course = Course(what, servers_, job, inputs, options.seconds or _SECONDS, facts=facts)
            window, found = once(course, ours(name, _SETTINGS), number)
            faults += found.faults
            results = figures.alone if name == "alone" else figures.behind
            results.add(found.in_window * len(MEMBERS), window)
    return faults
