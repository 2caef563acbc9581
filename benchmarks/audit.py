"""``python -m benchmarks.audit``: memory and time of the auditor's pure part on millions of made-up requests.

All but Kafka and the decoding of records: ids are hashed, rows spilled into buckets on disk and judged.
One request in a thousand has a fault, so that it is seen to find them all.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.rows import keep
from benchmarks.tables import say
from stream_ensemble.cli.audit import requests, rows
from stream_ensemble.cli.audit.rows import hashes, table
from stream_ensemble.cli.audit.spill import Buckets
from stream_ensemble.cli.audit.tally import Offence, Tally
from stream_ensemble.cli.audit.terms import Terms

MEMBERS = 3
_CHUNK = 20_000
#: One request in so many has no fused record, and as many others have two.
_FAULTY = 1000
_OFFSET_AT = np.uint64(16)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000_000, help="of one partition")
    parser.add_argument("--temporary", type=Path, help="where the buckets go")
    parser.add_argument("--no-rows", action="store_true", help="do not append to the rows kept here")
    args = parser.parse_args()
    before_mb = _peak_mb()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=args.temporary) as folder:
        buckets = Buckets(Path(folder), rows.TABLES)
        for first in range(0, args.requests, _CHUNK):
            _add(buckets, first, min(_CHUNK, args.requests - first))
        spilled_s = time.monotonic() - began
        disk = sum(file.stat().st_size for file in Path(folder).iterdir())
        tally = _judged(buckets)
    expected = args.requests // _FAULTY
    faults = tally.offences[Offence.MISSING] != expected or tally.offences[Offence.TWICE] != expected
    row = {
        "name": "audit",
        "requests": args.requests,
        "members": MEMBERS,
        "spill_s": round(spilled_s, 1),
        "judge_s": round(time.monotonic() - began - spilled_s, 1),
        "peak_rss_mb": round(_peak_mb()),
        "rss_before_mb": round(before_mb),
        "disk_mb": round(disk / 1e6),
        "disk_bytes_per_request": round(disk / args.requests),
        "missing": tally.offences[Offence.MISSING],
        "twice": tally.offences[Offence.TWICE],
    }
    say(str(row))
    if not args.no_rows and not faults:
        keep("audit", row)
    return 1 if faults else 0


def _add(buckets: Buckets, first: int, count: int) -> None:
    numbers = np.arange(first, first + count)
    ids = hashes([b"request-%010d" % n for n in numbers.tolist()])
    appended = numbers // 50
    for member in range(MEMBERS):
        places = _places(member, numbers)
        outputs = np.full(count, member, np.uint64)
        columns = {
            "place": places,
            "appended": appended,
            "outputs": outputs,
            "member": member,
            "decided": True,
        }
        buckets.add("predictions", table(rows.PREDICTION, ids, **columns))
        buckets.add(
            "components",
            table(
                rows.COMPONENT, ids, place=places, fused=_places(0, numbers), outputs=outputs, member=member
            ),
        )
    ended = numbers % _FAULTY != 0
    fused = table(rows.FUSED, ids, place=_places(0, numbers), appended=appended + 5, judged=True)
    buckets.add("fused", fused[ended])
    twice = fused[numbers % _FAULTY == 1]
    twice["place"] += np.uint64(1)
    buckets.add("fused", twice)


def _places(topic: int, offsets: np.ndarray[tuple[int], np.dtype[np.int64]]) -> rows.Rows:
    return np.uint64(rows.place(topic, 0)) + (offsets.astype(np.uint64) << _OFFSET_AT)


def _judged(buckets: Buckets) -> Tally:
    terms = Terms(partition=0, deadline_ms=1000, silence_after_ms=2000, firsts=(0,) * MEMBERS)
    tally = Tally()
    for bucket in buckets.all():
        tally.add(requests.judge(bucket, terms))
    return tally


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
