"""Runs ``python -m faust`` in a process whose wall clock jumps: ``python skewed.py SECONDS AFTER_S ARGS...``.

The clock is right at first and wrong by SECONDS from AFTER_S seconds on, as when somebody sets it.
"""

import runpy
import sys
import time

_skew_ns, _jump = int(float(sys.argv[1]) * 1e9), time.monotonic() + float(sys.argv[2])
_time_ns = time.time_ns


def _wrong_ns() -> int:
    return _time_ns() + (_skew_ns if time.monotonic() >= _jump else 0)


time.time_ns = _wrong_ns
time.time = lambda: _wrong_ns() / 1e9
del sys.argv[1:3]
runpy.run_module("faust", run_name="__main__", alter_sys=True)
