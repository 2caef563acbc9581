"""Publishes requests' predictions at a given rate, and each one's label a second later, whatever the workers
do: ``python -m benchmarks.label_paced``. A process of its own, as ``paced``.

Predictions are columnar records of a tick, so that publishing leaves the cores to the workers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.job import Job, make_job
from benchmarks.label_log import label_values, labels_of
from benchmarks.load import Loader
from benchmarks.task import MEMBERS, PARTITIONS
from benchmarks.values import columnar_value, id_list
from stream_ensemble.core.partitioning import murmur2_rows
from stream_ensemble.messages import FORMAT_COLUMNS, HEADER_FORMAT

#: A label comes this long after its request's predictions.
DELAY_S = 1.0
_TICK_S = 0.01
_LINGER_MS = 2.0
_HEADERS = [(HEADER_FORMAT, FORMAT_COLUMNS)]


class _Publisher:
    def __init__(self, bootstrap: str, topics: Sequence[str], feedback: str, job: Job) -> None:
        self._loader = Loader(bootstrap, linger_ms=_LINGER_MS)
        self._topics, self._feedback, self._job = topics, feedback, job
        self._partition = (murmur2_rows(job.ids) & np.uint32(0x7FFFFFFF)) % np.uint32(PARTITIONS)
        self._labels = labels_of(job)

    def predict(self, begin: int, end: int) -> None:
        """All members' answers to these requests."""
        at = int(time.time() * 1000)
        for partition in range(PARTITIONS):
            rows = begin + np.flatnonzero(self._partition[begin:end] == partition)
            if not len(rows):
                continue
            for k, (member, topic) in enumerate(zip(MEMBERS, self._topics, strict=True)):
                value = columnar_value(self._job.ids[rows], member, self._job.parts[rows, k], at)
                self._loader.produce(topic, value, partition=partition, headers=_HEADERS)

    def label(self, begin: int, end: int) -> None:
        """Their labels, a record each."""
        ids = id_list(self._job.ids[begin:end])
        self._loader.publish(self._feedback, ids, label_values(ids, self._labels[begin:end]))

    def run(self, rate: int) -> None:
        """All requests of the job, ``rate`` a second."""
        began, predicted, labelled = time.monotonic(), 0, 0
        while labelled < len(self._job):
            passed = time.monotonic() - began
            due = min(len(self._job), int(passed * rate))
            self.predict(predicted, due)
            label_due = max(0, min(len(self._job), int((passed - DELAY_S) * rate)))
            if label_due > labelled:
                self.label(labelled, label_due)
            predicted, labelled = due, label_due
            self._loader.poll(0)
            time.sleep(_TICK_S)
        self._loader.finish()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.label_paced", description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("predictions", help="topics, one a member")
    parser.add_argument("feedback")
    parser.add_argument("rate", type=int)
    parser.add_argument("requests", type=int)
    given = parser.parse_args()
    job = make_job(given.requests)
    _Publisher(given.bootstrap, given.predictions.split(","), given.feedback, job).run(given.rate)


if __name__ == "__main__":
    main()
