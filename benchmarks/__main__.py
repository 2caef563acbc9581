"""``python -m benchmarks [what]``: measures on a real Kafka, reads every output back, prints tables with the
promised bars, and appends a row per measurement to ``benchmarks/rows``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from benchmarks.bounds import bounds
from benchmarks.columnar import columnar
from benchmarks.credit import credit
from benchmarks.label_latency import label_latency
from benchmarks.labels import labels
from benchmarks.latency import latency
from benchmarks.open_requests import open_requests
from benchmarks.options import Options
from benchmarks.segments import segments
from benchmarks.start import start
from benchmarks.tables import say
from benchmarks.throughput import throughput
from benchmarks.workers import workers

WHAT: dict[str, Callable[[Options], int]] = {
    "throughput": throughput,
    "columnar": columnar,
    "latency": latency,
    "workers": workers,
    "open": open_requests,
    "start": start,
    "segments": segments,
    "labels": labels,
    "label_latency": label_latency,
    "credit": credit,
    "bounds": bounds,
}


def main() -> int:
    what, options = _parsed()
    faults = 0
    for name in WHAT if what == "all" else [what]:
        say(f"\n== {name}")
        faults += WHAT[name](options)
    if faults:
        say(f"\n{faults} FAULTS in runs or their outputs: the figures count for nothing")
    return 1 if faults else 0


def _parsed() -> tuple[str, Options]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="?", default="throughput", choices=[*WHAT, "all"])
    parser.add_argument("--rounds", type=int, help="runs of each contestant, by turns")
    parser.add_argument("--requests", type=int, help="requests in the input (4 predictions each)")
    parser.add_argument("--seconds", type=float, help="longest window of one run")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="measure this contestant; may be repeated"
    )
    parser.add_argument("--rows", type=int, default=100, help="columnar: predictions a record")
    parser.add_argument(
        "--rates", type=_rates, default="50000,5000,100", help="latency: predictions a second"
    )
    parser.add_argument(
        "--no-rows", action="store_true", help="do not append to the rows kept in the repository"
    )
    given = parser.parse_args()
    options = Options(
        rounds=given.rounds,
        requests=given.requests,
        seconds=given.seconds,
        only=tuple(given.only),
        keep_rows=not given.no_rows,
        rows=given.rows,
        rates=given.rates,
    )
    return given.what, options


def _rates(text: str) -> tuple[int, ...]:
    return tuple(sorted(map(int, text.split(",")), reverse=True))


if __name__ == "__main__":
    sys.exit(main())
