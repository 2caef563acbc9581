"""CPU, wall time and memory of worker processes between their first and their last output record."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from benchmarks.contestants import Command, Run
from benchmarks.task import PARTITIONS
from benchmarks.topics import patiently
from stream_ensemble.embedded.process import ChildProcess

_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLE_S = 0.05
_START_LIMIT_S = 90.0
_STALL_S = 20.0
_STOP_LIMIT_S = 20.0
#: A window opens at the latest when this share of all that was put out is there.
_WARM_SHARE = 0.25
#: And closes at this share where all was put out, so that it ends as it begins: while input is still read.
_CLOSE_SHARE = 0.9
#: A fence leaves one invisible marker per partition, so a handful of offsets is not output yet.
_MARKERS = 4 * PARTITIONS


class RunError(Exception):
    """A contestant ended or gave no output."""


class Sample(NamedTuple):
    """One look: monotonic seconds, the output partitions' ends, CPU seconds of each process so far."""

    at: float
    ends: tuple[int, ...]
    cpu: tuple[float, ...]

    @property
    def total(self) -> int:
        return sum(self.ends)


@dataclass(frozen=True, slots=True)
class Window:
    """From the first look after warming up to the last before the end of the input is near.

    Attributes:
        start_s: from the start of the process to its first output.
        cpu_s: of each worker process and, last, of the broker.
        peak_rss_mb: of all worker processes together, over their whole life.
        cut: the time was up before all was put out.
    """

    begin: Sample
    end: Sample
    start_s: float
    peak_rss_mb: float
    cut: bool

    @property
    def wall_s(self) -> float:
        return self.end.at - self.begin.at

    @property
    def cpu_s(self) -> tuple[float, ...]:
        return tuple(after - before for before, after in zip(self.begin.cpu, self.end.cpu, strict=True))

    @property
    def worker_cpu_s(self) -> float:
        """Of all worker processes."""
        return sum(self.cpu_s[:-1])


class Ends:
    """Looks at the ends of a topic's partitions."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._watcher = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench-watch"})
        self._partitions = [TopicPartition(topic, p) for p in range(PARTITIONS)]

    def now(self) -> tuple[int, ...]:
        """One offset a partition."""
        return tuple(self._watcher.get_watermark_offsets(p, timeout=10)[1] for p in self._partitions)

    def close(self) -> None:
        """Disconnect."""
        self._watcher.close()


def cpu_seconds(pid: int) -> float:
    """User plus system time so far of a process and of the children its main thread has or had."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        # It has just ended; what a child took is then counted with its parent.
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS + sum(cpu_seconds(int(child)) for child in children)


def rss_mb(pid: int, field: str = "VmRSS") -> float:
    """Resident size of a process now, or its largest so far with ``VmHWM``."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


def measure(
    run: Run,
    commands: Sequence[Command],
    expected: int | None,
    *,
    warm_s: float,
    seconds: float,
    pause_s: float = _STALL_S,
) -> Window:
    """Start the workers of a run, watch their output, stop them.

    It ends with ``expected`` records (None: not known), after ``warm_s + seconds`` of output, or when nothing
    more came for ``pause_s``.

    Raises:
        RunError: a process ended by itself, no output came in time, or all of it at once.
    """
    ends = Ends(run.servers.bootstrap, run.output)
    workers: list[ChildProcess] = []
    try:
        patiently(ends.now)
        began = time.monotonic()
        workers = [command.start(run) for command in commands]
        samples, cut = _watch(run, workers, ends, expected, warm_s + seconds, pause_s)
        peak = sum(rss_mb(worker.pid, "VmHWM") for worker in workers)
    finally:
        for worker in workers:
            worker.stop(_STOP_LIMIT_S)
        ends.close()
    begin = _opening(samples, warm_s)
    end = samples[-1] if cut else _closing(samples, begin)
    if begin is end or begin.cpu[:-1] == end.cpu[:-1]:
        raise RunError(f"{run.name} put everything out between two looks: give it more requests")
    return Window(begin, end, samples[0].at - began, peak, cut)


def _watch(
    run: Run,
    workers: Sequence[ChildProcess],
    ends: Ends,
    expected: int | None,
    limit_s: float,
    pause_s: float,
) -> tuple[list[Sample], bool]:
    """The samples that saw more output than the one before, and whether the time was up."""
    pids = [*(worker.pid for worker in workers), run.servers.broker_pid]
    began = time.monotonic()
    samples: list[Sample] = []
    while True:
        time.sleep(_SAMPLE_S)
        if not all(worker.running for worker in workers):
            raise RunError(f"{run.name} ended by itself:\n{workers[0].output(2048)}")
        sample = Sample(time.monotonic(), ends.now(), tuple(map(cpu_seconds, pids)))
        if sample.total > (samples[-1].total if samples else _MARKERS):
            samples.append(sample)
        if not samples:
            if sample.at - began > _START_LIMIT_S:
                raise RunError(f"{run.name}: no output in {_START_LIMIT_S:g} s:\n{workers[0].output(2048)}")
            continue
        if expected is not None and sample.total >= expected:
            return samples, False
        if sample.at - samples[-1].at > pause_s:
            return samples, False
        if sample.at - samples[0].at > limit_s:
            return samples, True


def _opening(samples: Sequence[Sample], warm_s: float) -> Sample:
    """Where the window opens: the same rule for everybody."""
    enough = samples[-1].total * _WARM_SHARE
    for sample in samples:
        if sample.at - samples[0].at >= warm_s or sample.total >= enough:
            return sample
    return samples[0]


def _closing(samples: Sequence[Sample], begin: Sample) -> Sample:
    """Where it closes when the time was not up; some put out so much at once that only the end is left."""
    enough = samples[-1].total * _CLOSE_SHARE
    return next((each for each in samples if each.at > begin.at and each.total >= enough), samples[-1])
