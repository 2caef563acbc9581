"""``python -m benchmarks``: our worker beside its peers on a real Kafka, alternating, every output read back.

Prints a table and appends one row per run to ``benchmarks/rows/throughput.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import product
from pathlib import Path

from benchmarks.contestants import CONTESTANTS
from benchmarks.job import MEMBERS, WEIGHTS, load, requests
from benchmarks.measure import Measured, run
from benchmarks.verify import Verified, verify
from stream_ensemble.embedded import EmbeddedKafka, EmbeddedRedis

ROWS = Path(__file__).parent / "rows" / "throughput.jsonl"
#: At least this many times the plain agent's predictions per CPU second.
BAR = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--requests", type=int, default=400_000, help="requests in the input (4 predictions each)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="alternating rounds")
    parser.add_argument("--seconds", type=float, default=15.0, help="longest output window of one run")
    parser.add_argument("--only", choices=sorted(CONTESTANTS), help="measure one contestant")
    parser.add_argument(
        "--no-rows", action="store_true", help="do not append to the rows kept in the repository"
    )
    options = parser.parse_args()
    names = [options.only] if options.only else list(CONTESTANTS)
    results: dict[str, list[float]] = {name: [] for name in names}
    faults = 0
    scratch = tempfile.TemporaryDirectory(prefix="bench-")
    with scratch, EmbeddedRedis() as redis, EmbeddedKafka(heap_mb=1024, fast_jit=False) as kafka:
        load(kafka.bootstrap, options.requests, _say)
        ids, p = requests(options.requests)
        for number, name in product(range(options.rounds), names):
            _say(f"round {number + 1}: {name}")
            run_name = f"{name.replace('_', '-')}-{number}-{int(time.time())}"
            folder = Path(scratch.name) / run_name
            folder.mkdir()
            started = CONTESTANTS[name](run_name, kafka.bootstrap, redis.url, folder)
            measured = run(
                started.command,
                started.environment,
                folder / "log",
                kafka.bootstrap,
                started.output,
                options.requests,
                options.seconds,
                _say,
            )
            checked = verify(kafka.bootstrap, started.output, ids, p, WEIGHTS)
            faults += checked.faults()
            results[name].append(measured.per_cpu_second)
            if not options.no_rows:
                _keep(_row(name, options.requests, measured, checked))
    _table(results)
    if faults:
        _say(f"{faults} faults in the outputs: the figures count for nothing")
        return 1
    return 0


def _keep(row: dict[str, object]) -> None:
    ROWS.parent.mkdir(exist_ok=True)
    with ROWS.open("a") as file:
        file.write(json.dumps(row) + "\n")


def _row(name: str, count: int, measured: Measured, checked: Verified) -> dict[str, object]:
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "name": name,
        "requests": count,
        "members": len(MEMBERS),
        "per_cpu_second": round(measured.per_cpu_second),
        "per_second": round(measured.per_wall_second),
        "cpu_s": round(measured.cpu_s, 2),
        "wall_s": round(measured.wall_s, 2),
        "start_s": round(measured.start_s, 2),
        "peak_rss_mb": round(measured.peak_rss_mb),
        **checked.as_dict(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "faust": version("faust-streaming"),
        "aiokafka": version("aiokafka"),
    }


def _table(results: dict[str, list[float]]) -> None:
    _say("\npredictions per CPU second of the worker process (median, lowest to highest)")
    for name, values in results.items():
        middle = statistics.median(values)
        _say(f"  {name:<16} {middle:>12,.0f}   {min(values):>10,.0f} to {max(values):>10,.0f}")
    if len(results) == 2:
        ratio = statistics.median(results["stream_ensemble"]) / statistics.median(results["plain_agent"])
        _say(f"  ratio {ratio:.1f} (bar {BAR:g})")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
