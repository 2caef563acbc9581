"""One contestant under a paced load: what was heard, and the CPU it took."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks import paced
from benchmarks.contestants import Command, Contestant, Run
from benchmarks.listening import Heard, listen, listener
from benchmarks.measure import RunError, cpu_seconds
from benchmarks.paced import Phase
from benchmarks.topics import create_topics
from stream_ensemble.embedded.process import ChildProcess

_BEGIN_LIMIT_S = 60.0
_END_LIMIT_S = 30.0
_STOP_LIMIT_S = 20.0
#: Answers may come this long after the last prediction.
_DRAIN_S = 3.0


class Cores(NamedTuple):
    """CPU seconds a second over the counted part of a phase."""

    worker: float
    broker: float


class Paced(NamedTuple):
    """What a run gave: ``cores`` by phase; 99 of 100 predictions were published at most ``late_s`` late."""

    heard: Heard
    cores: list[Cores]
    late_s: float


@dataclass(slots=True)
class _Watch:
    """CPU of worker and broker at the times that matter, taken while listening."""

    worker: ChildProcess
    broker_pid: int
    times: Sequence[float]
    taken: list[tuple[float, float]] = field(default_factory=list)

    def look(self, now: float) -> bool:
        """Whether to go on listening."""
        if not self.worker.running:
            raise RunError(f"{self.worker.name} ended by itself:\n{self.worker.output(2048)}")
        if len(self.taken) < len(self.times) and now >= self.times[len(self.taken)]:
            self.taken.append((cpu_seconds(self.worker.pid), cpu_seconds(self.broker_pid)))
        return now < self.times[-1] + _DRAIN_S

    def cores(self, phases: Sequence[Phase]) -> list[Cores]:
        """By phase."""
        pairs = zip(phases, self.taken[::2], self.taken[1::2], strict=True)
        return [
            Cores(
                *((after - before) / (phase.end - phase.counted) for before, after in zip(*both, strict=True))
            )
            for phase, *both in pairs
        ]


def paced_run(run: Run, contestant: Contestant, phases: Sequence[Phase]) -> Paced:
    """Start the worker, publish through all phases, hear every answer.

    Raises:
        RunError: worker or publisher did not do their part.
    """
    servers = run.servers
    create_topics(servers.bootstrap, run.inputs)
    command = contestant.command(run)
    consumer = listener(servers.bootstrap, run.output)
    worker = command.start(run)
    publisher = _publisher(run, phases)
    try:
        began = _began(publisher)
        times = [began + each for phase in phases for each in (phase.counted, phase.end)]
        watch = _Watch(worker, servers.broker_pid, times)
        heard = listen(consumer, watch.look)
        publisher.wait(_END_LIMIT_S)
        late = paced.late_by(publisher.output())
        if late is None:
            raise RunError(f"the publisher failed:\n{publisher.output(2048)}")
        return Paced(heard, watch.cores(phases), late)
    finally:
        publisher.stop()
        worker.stop(_STOP_LIMIT_S)
        consumer.close()


def _publisher(run: Run, phases: Sequence[Phase]) -> ChildProcess:
    arguments = paced.arguments(run.servers.bootstrap, run.inputs, phases)
    command = Command([sys.executable, "-m", "benchmarks.paced", *arguments], {})
    return command.start(run, "publisher")


def _began(publisher: ChildProcess) -> float:
    deadline = time.monotonic() + _BEGIN_LIMIT_S
    while time.monotonic() < deadline:
        began = paced.began_at(publisher.output())
        if began is not None:
            return began
        time.sleep(0.05)
    raise RunError(f"the publisher did not begin:\n{publisher.output(2048)}")
