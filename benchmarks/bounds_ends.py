"""How the requests of a run ended, read back: one terminal record each, with which status and cause."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec
import numpy as np

from benchmarks.contestants import Run
from benchmarks.job import ID_BYTES, Job, numbers_of
from benchmarks.verify import read_back


class _Ended(msgspec.Struct, gc=False):
    status: str
    cause: str | None = None


_decode = msgspec.json.Decoder(_Ended).decode


@dataclass(slots=True)
class Ends:
    """Requests without a terminal record, records too many, records of unknown requests; and records by
    ``status`` or ``status cause``.
    """

    missing: int = 0
    twice: int = 0
    unknown: int = 0
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def faults(self) -> int:
        return self.missing + self.twice + self.unknown


def ends_of(run: Run, job: Job) -> Ends:
    """Read all of the run's output back."""
    found = Ends()
    seen = np.zeros(len(job), np.int64)
    for _, messages in read_back(run.servers.bootstrap, run.output):
        ids = np.frombuffer(b"".join([message.key() for message in messages]), np.uint8).reshape(-1, ID_BYTES)
        rows = numbers_of(ids)
        known = (rows >= 0) & (rows < len(job))
        known &= (job.ids[np.where(known, rows, 0)] == ids).all(axis=1)
        found.unknown += int((~known).sum())
        np.add.at(seen, rows[known], 1)
        for message in messages:
            ended = _decode(message.value())
            found.statuses[" ".join(filter(None, (ended.status, ended.cause)))] += 1
    found.missing = int((seen == 0).sum())
    found.twice = int((seen[seen > 1] - 1).sum())
    return found
