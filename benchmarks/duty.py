"""Lets a process run and stops it in turns: ``python -m benchmarks.duty PID ON_MS OFF_MS``.

It goes on by itself when this ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from benchmarks.contestants import Command


def squeeze(pid: int, on_s: float, off_s: float) -> None:
    """Until SIGTERM, or until the process is gone."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while True:
            os.kill(pid, signal.SIGCONT)
            time.sleep(on_s)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(off_s)
    except ProcessLookupError:
        return
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def command(pid: int, on_ms: float, off_ms: float) -> Command:
    """What starts it as a process."""
    return Command([Path(sys.executable), "-m", "benchmarks.duty", *map(str, (pid, on_ms, off_ms))], {})


if __name__ == "__main__":
    squeeze(int(sys.argv[1]), float(sys.argv[2]) / 1000, float(sys.argv[3]) / 1000)
