"""Publishes predictions at given rates, whatever the workers do: ``python -m benchmarks.paced``.

A process of its own, so that measuring and publishing do not wait for each other.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.job import Job, make_job
from benchmarks.load import Loader
from benchmarks.task import MEMBERS
from benchmarks.values import id_list, json_values

#: The members answer a request within so many seconds of each other.
_APART_S = 0.02
_LINGER_MS = 2.0
_TICK_S = 0.0005
_BEGAN, _LATE = "began at", "late by"


class Phase(NamedTuple):
    """``rate`` predictions a second from ``begin`` to ``end``; what comes before ``counted`` warms up.

    Times are seconds after the start.
    """

    rate: int
    begin: float
    counted: float
    end: float

    @property
    def requests(self) -> int:
        return int(self.rate / len(MEMBERS) * (self.end - self.begin))


class Plan(NamedTuple):
    """N predictions in the order they are due.

    Shapes: due N (seconds after the start), requests N, members N.
    """

    due: NDArray[np.float64]
    requests: NDArray[np.int64]
    members: NDArray[np.int64]


def asked_at(phases: Sequence[Phase]) -> NDArray[np.float64]:
    """When each request is made, in seconds after the start: at random, evenly over its phase."""
    rng = np.random.default_rng(11)
    return np.concatenate([np.sort(rng.uniform(p.begin, p.end, p.requests)) for p in phases])


def plan(asked: NDArray[np.float64]) -> Plan:
    """All predictions of the requests ``asked``, R."""
    rng = np.random.default_rng(12)
    due = asked[:, None] + rng.uniform(0, _APART_S, (len(asked), len(MEMBERS)))
    order = np.argsort(due, axis=None)
    requests, members = np.divmod(order, len(MEMBERS))
    return Plan(due.ravel()[order], requests, members)


def publish(bootstrap: str, inputs: Sequence[str], job: Job, planned: Plan) -> None:
    """Publish the plan; says when it began and how late records were handed over."""
    loader = Loader(bootstrap, linger_ms=_LINGER_MS)
    ids = id_list(job.ids)
    at = int(time.time() * 1000)
    values = [json_values(job.ids, member, job.parts[:, k], at) for k, member in enumerate(MEMBERS)]
    places = list(zip(planned.requests.tolist(), planned.members.tolist(), strict=True))
    due = planned.due.tolist()
    late = np.zeros(len(due))
    began = time.time()
    print(_BEGAN, began, flush=True)
    n = 0
    while n < len(due):
        now = time.time() - began
        while n < len(due) and due[n] <= now:
            i, k = places[n]
            loader.produce(inputs[k], values[k][i], ids[i])
            late[n] = now - due[n]
            n += 1
        loader.poll(0)
        time.sleep(_TICK_S)
    loader.finish()
    print(_LATE, np.quantile(late, 0.99), flush=True)


def began_at(said: str) -> float | None:
    """When publishing began, from what the process said so far; seconds since the epoch."""
    return _after(_BEGAN, said)


def late_by(said: str) -> float | None:
    """How late 99 of 100 records were at most, in seconds; said at the end."""
    return _after(_LATE, said)


def _after(words: str, said: str) -> float | None:
    found = [line for line in said.splitlines() if line.startswith(words)]
    return float(found[0].removeprefix(words)) if found else None


def arguments(bootstrap: str, inputs: Sequence[str], phases: Sequence[Phase]) -> list[str]:
    """Of the command line."""
    return [bootstrap, ",".join(inputs), *(":".join(map(str, phase)) for phase in phases)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paced", description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("inputs", help="topics, one a member")
    parser.add_argument("phases", nargs="+", help="RATE:BEGIN:COUNTED:END")
    given = parser.parse_args()
    parts = [phase.split(":") for phase in given.phases]
    phases = [Phase(int(rate), *map(float, times)) for rate, *times in parts]
    asked = asked_at(phases)
    publish(given.bootstrap, given.inputs.split(","), make_job(len(asked)), plan(asked))


if __name__ == "__main__":
    main()
