"""Publishes all predictions of some requests of a job at a steady rate: ``python -m benchmarks.flow``.

A process of its own, so that measuring and publishing do not wait for each other. Coarser than
``benchmarks.paced``, and able to do a hundred thousand a second.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contestants import Command
from benchmarks.job import Job, make_job
from benchmarks.load import Loader
from benchmarks.task import MEMBERS
from benchmarks.values import id_list, json_values

_TICK_S = 0.02
_BEGAN = "began at"
_DONE = "done at"


def flow(bootstrap: str, inputs: Sequence[str], job: Job, rows: range, rate: float) -> None:
    """Publish the predictions of these requests, ``rate`` requests a second; says when it began and ended."""
    loader = Loader(bootstrap, linger_ms=5)
    began = time.time()
    print(_BEGAN, began, flush=True)
    done = rows.start
    while done < rows.stop:
        due = min(rows.stop, rows.start + int((time.time() - began) * rate))
        if due > done:
            ids, at = job.ids[done:due], int(time.time() * 1000)
            for k, member in enumerate(MEMBERS):
                values = json_values(ids, member, job.parts[done:due, k], at)
                loader.publish(inputs[k], id_list(ids), values)
            done = due
        time.sleep(_TICK_S)
    loader.finish()
    print(_DONE, time.time(), flush=True)


def command(bootstrap: str, inputs: Sequence[str], count: int, rows: range, rate: float) -> Command:
    """What starts it as a process: some ``rows`` of a job of ``count`` requests."""
    where = [bootstrap, ",".join(inputs), *map(str, (count, rows.start, rows.stop, rate))]
    return Command([Path(sys.executable), "-m", "benchmarks.flow", *where], {})


def began(said: str) -> bool:
    """Has it begun, by what it said?"""
    return _BEGAN in said


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flow", description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("inputs", help="topics, one a member")
    parser.add_argument("count", type=int, help="requests of the job")
    parser.add_argument("begin", type=int)
    parser.add_argument("end", type=int)
    parser.add_argument("rate", type=float, help="requests a second")
    given = parser.parse_args()
    rows = range(given.begin, given.end)
    flow(given.bootstrap, given.inputs.split(","), make_job(given.count), rows, given.rate)


if __name__ == "__main__":
    main()
