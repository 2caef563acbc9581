"""Contestants on the same input by turns: each run measured, read back and verified."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.contestants import Contestant, MissingToolError, new_run
from benchmarks.job import Job
from benchmarks.measure import RunError, Window, measure
from benchmarks.rows import keep
from benchmarks.servers import Servers
from benchmarks.tables import say, spread
from benchmarks.task import MEMBERS
from benchmarks.topics import drop_topics
from benchmarks.verify import Verified, verify

#: Columns of ``Results.cells``.
CELLS = ["predictions per CPU second", "per second", "broker, cores", "peak RSS, MB"]
#: After so much silence everything is there, where the number of records is not known.
_PAUSE_S = 2.0
#: Shorter windows hold too few looks.
_SHORT_S = 2.0


@dataclass(frozen=True, slots=True)
class Course:
    """What all contestants of a race share.

    Attributes:
        what: names the rows that are kept; empty: none are.
        seconds: longest window.
        exact: see ``verify``.
        facts: stand in every row.
    """

    what: str
    servers: Servers
    job: Job
    inputs: Sequence[str]
    seconds: float
    exact: bool = True
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Results:
    """What the runs of one contestant gave, one number a run."""

    per_cpu_second: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    broker_cores: list[float] = field(default_factory=list)
    peak_rss_mb: list[float] = field(default_factory=list)
    window_s: list[float] = field(default_factory=list)

    def add(self, predictions: int, window: Window) -> None:
        """So many ``predictions`` were answered in ``window``."""
        self.per_cpu_second.append(predictions / window.worker_cpu_s)
        self.per_second.append(predictions / window.wall_s)
        self.broker_cores.append(window.cpu_s[-1] / window.wall_s)
        self.peak_rss_mb.append(window.peak_rss_mb)
        self.window_s.append(window.wall_s)

    @property
    def median(self) -> float:
        """Predictions per CPU second."""
        return statistics.median(self.per_cpu_second)

    def cells(self) -> list[str]:
        """For a table."""
        return [
            spread(self.per_cpu_second),
            spread(self.per_second),
            f"{statistics.median(self.broker_cores):.2f}",
            f"{max(self.peak_rss_mb):,.0f}",
        ]


def quotable(window_s: Iterable[float]) -> bool:
    """Whether the windows are long enough; where a look more or less changes the figures, a line says so and
    no bar should be judged.
    """
    shortest = min(window_s, default=_SHORT_S)
    if shortest < _SHORT_S:
        say(f"\nNOT TO BE QUOTED: the shortest window was {shortest:.1f} s; give it more --requests")
    return shortest >= _SHORT_S


def ready(contestants: Sequence[Contestant]) -> list[Contestant]:
    """Those that can run here; for every other one a line says what to install."""
    found = []
    for contestant in contestants:
        try:
            contestant.prepare()
        except MissingToolError as error:
            say(f"LEFT OUT: {contestant.name}: {error}")
        else:
            found.append(contestant)
    return found


def race(course: Course, contestants: Sequence[Contestant], rounds: int) -> tuple[dict[str, Results], int]:
    """Results of those that gave any, and the number of faults."""
    results: dict[str, Results] = {}
    faults = 0
    for number in range(1, rounds + 1):
        for contestant in contestants:
            try:
                window, found = once(course, contestant, number)
            except RunError as error:
                say(f"  round {number}, {contestant.name}: FAILED: {error}")
                faults += 1
                continue
            faults += found.faults
            predictions = found.in_window * len(MEMBERS)
            results.setdefault(contestant.name, Results()).add(predictions, window)
    return results, faults


def once(course: Course, contestant: Contestant, number: int) -> tuple[Window, Verified]:
    """One run of one contestant, its topics dropped afterwards."""
    run = new_run(course.servers, contestant.name, number, course.inputs)
    window = measure(
        run,
        [contestant.command(run)],
        None if contestant.uncounted else len(course.job),
        warm_s=contestant.warm_s,
        seconds=min(course.seconds, contestant.longest_s),
        **({"pause_s": _PAUSE_S} if contestant.uncounted else {}),
    )
    found = verify(run, course.job, window, complete=not window.cut, exact=course.exact)
    drop_topics(course.servers.bootstrap, run.name)
    predictions = found.in_window * len(MEMBERS)
    say(
        f"  round {number}, {contestant.name}: {predictions / window.worker_cpu_s:,.0f} predictions per CPU "
        f"second, {predictions / window.wall_s:,.0f} per second for {window.wall_s:.1f} s, "
        f"{found.distinct:,} answers, {found.faults} faults"
    )
    if course.what:
        keep(course.what, _row(course, contestant, predictions, window, found))
    return window, found


def _row(
    course: Course, contestant: Contestant, predictions: int, window: Window, found: Verified
) -> dict[str, object]:
    return {
        "name": contestant.name,
        "requests": len(course.job),
        "members": len(MEMBERS),
        **course.facts,
        "per_cpu_second": round(predictions / window.worker_cpu_s),
        "per_second": round(predictions / window.wall_s),
        "cpu_s": round(window.worker_cpu_s, 2),
        "broker_cpu_s": round(window.cpu_s[-1], 2),
        "wall_s": round(window.wall_s, 2),
        "start_s": round(window.start_s, 2),
        "warm_s": contestant.warm_s,
        "peak_rss_mb": round(window.peak_rss_mb),
        **found.as_dict(),
        "peer_versions": dict(contestant.versions),
    }
