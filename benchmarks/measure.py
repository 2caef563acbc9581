"""CPU, wall time and memory of a worker process between its first and its last output record."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition

from benchmarks.job import MEMBERS, PARTITIONS

_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLE_S = 0.02
_START_LIMIT_S = 60.0
_STALL_S = 20.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run gave.

    ``cpu_s`` is user and system time of the process, ``wall_s`` the same window by the clock.
    """

    outputs: int
    counted: int
    cpu_s: float
    wall_s: float
    start_s: float
    peak_rss_mb: float

    @property
    def per_cpu_second(self) -> float:
        """Predictions joined, fused and published per CPU second of the worker process."""
        return self.counted * len(MEMBERS) / self.cpu_s

    @property
    def per_wall_second(self) -> float:
        """The same per second of wall time; broker and worker share the cores."""
        return self.counted * len(MEMBERS) / self.wall_s


def cpu_seconds(pid: int) -> float:
    """User plus system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_rss_mb(pid: int) -> float:
    """Largest resident size of a process so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    bootstrap: str,
    output: str,
    expected: int,
    limit_s: float,
    progress: Callable[[str], None],
) -> Measured:
    """Start a worker, watch its output topic until ``expected`` records or ``limit_s`` of output, stop it.

    The window opens at the first look that sees output and closes at the last that sees more, so start-up,
    and the little that was read ahead before the first output, are on neither side of the ratio.
    """
    watcher = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bench-watch", "enable.auto.commit": False}
    )
    parts = [TopicPartition(output, p) for p in range(PARTITIONS)]

    def written() -> int:
        return sum(watcher.get_watermark_offsets(part, timeout=10)[1] for part in parts)

    before = _patiently(written)
    began = time.monotonic()
    with log.open("wb") as sink:
        worker = subprocess.Popen(command, env=dict(environment), stdout=sink, stderr=subprocess.STDOUT)
    try:
        first = last = (0.0, 0.0, 0)
        while True:
            time.sleep(_SAMPLE_S)
            if worker.poll() is not None:
                raise RuntimeError(f"the worker ended with {worker.returncode}:\n{_tail(log)}")
            now, cpu, count = time.monotonic(), cpu_seconds(worker.pid), written() - before
            # Fences leave one invisible marker per partition, so a handful of offsets is not output yet.
            if not first[2] and count > 4 * PARTITIONS:
                first = last = (now, cpu, count)
            elif first[2] and count > last[2]:
                last = (now, cpu, count)
            if not first[2] and now - began > _START_LIMIT_S:
                raise RuntimeError(f"no output within {_START_LIMIT_S:g} s:\n{_tail(log)}")
            if first[2] and (count >= expected or now - first[0] > limit_s or now - last[0] > _STALL_S):
                break
        rss = peak_rss_mb(worker.pid)
    finally:
        worker.terminate()
        try:
            worker.wait(15)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
        watcher.close()
    result = Measured(
        last[2], last[2] - first[2], last[1] - first[1], last[0] - first[0], first[0] - began, rss
    )
    progress(
        f"  {result.per_cpu_second:>10,.0f} predictions per CPU second, "
        f"{result.per_wall_second:>10,.0f} per second"
    )
    return result


def _patiently(look: Callable[[], int]) -> int:
    """A topic just made has no leader for a moment."""
    deadline = time.monotonic() + 10.0
    while True:
        try:
            return look()
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
