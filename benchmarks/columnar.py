"""The same job published as columnar records: what a worker does with a CPU second then, with single and with
columnar records out.
"""

from __future__ import annotations

from benchmarks.contestants import input_names
from benchmarks.job import make_job
from benchmarks.load import load_columnar
from benchmarks.options import Options
from benchmarks.ours import ours
from benchmarks.race import CELLS, Course, quotable, race, ready
from benchmarks.servers import servers
from benchmarks.tables import Bar, bars, say, table

_REQUESTS = 2_500_000
_ROUNDS = 5
_SECONDS = 8.0
#: Predictions per CPU second.
_LEAST = {"single_out": 900_000, "columnar_out": 1_500_000}


def columnar(options: Options) -> int:
    """Run it; returns the number of faults."""
    contestants = [
        ours("single_out", {"fused_records": "single"}),
        ours("columnar_out", {"fused_records": "columnar"}, uncounted=True),
    ]
    chosen = ready(options.chosen(contestants))
    with servers() as servers_:
        job = make_job(options.requests or _REQUESTS)
        inputs = input_names("bench")
        load_columnar(servers_.bootstrap, job, inputs, options.rows, say)
        course = Course(
            "columnar" if options.keep_rows else "",
            servers_,
            job,
            inputs,
            options.seconds or _SECONDS,
            exact=False,
            facts={"rows_per_record": options.rows},
        )
        results, faults = race(course, chosen, options.rounds or _ROUNDS)
    table(["worker", *CELLS], [[name, *found.cells()] for name, found in results.items()])
    if quotable(seconds for found in results.values() for seconds in found.window_s):
        what = "predictions per CPU second"
        bars([Bar(f"{name}, {what}", found.median, _LEAST[name]) for name, found in results.items()])
    return faults
