"""The memory of a worker that has read its input and holds requests open."""

from __future__ import annotations

import time
from typing import NamedTuple

from benchmarks.contestants import Run
from benchmarks.measure import RunError, rss_mb
from benchmarks.ours import Settings, make_topics, worker
from benchmarks.pages import metric
from stream_ensemble.embedded.ports import free_port
from stream_ensemble.embedded.process import ChildProcess

_READ_LIMIT_S = 180.0
#: Until fetch buffers are given back.
_SETTLE_S = 2.0
_LOOK_S = 0.25
_STOP_LIMIT_S = 20.0


class Memory(NamedTuple):
    """Resident size when all was read, and the largest on the way there."""

    open_requests: int
    rss_mb: float
    peak_rss_mb: float


def memory_after_reading(run: Run, records: int, ensemble: Settings) -> Memory:
    """Start a worker on the run's input of ``records``, none of which completes a request.

    Raises:
        RunError: it did not read them all.
    """
    make_topics(run)
    port = free_port()
    process = worker(run, port, ensemble).start(run)
    try:
        _wait_until_read(process, port, records)
        time.sleep(_SETTLE_S)
        still_open = metric(port, "stream_ensemble_open_requests")
        return Memory(int(still_open), rss_mb(process.pid), rss_mb(process.pid, "VmHWM"))
    finally:
        process.stop(_STOP_LIMIT_S)


def _wait_until_read(process: ChildProcess, port: int, records: int) -> None:
    deadline = time.monotonic() + _READ_LIMIT_S
    while metric(port, "stream_ensemble_predictions_total") < records:
        if time.monotonic() > deadline or not process.running:
            raise RunError(f"{process.name} did not read its input:\n{process.output(2048)}")
        time.sleep(_LOOK_S)
