"""bytewax with a join made by hand: all records of a partition go to one piece of state, a dict, and are
fused a batch at a time.
"""

from __future__ import annotations

from typing import Any

import bytewax.operators as op
import numpy as np
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic

from benchmarks.peers import given
from benchmarks.peers.bytewax_flow import Fused, Message, run, source
from benchmarks.task import MEMBERS, WEIGHTS

_K = len(MEMBERS)
Pending = dict[bytes, list[Any]]


class Partition(StatefulBatchLogic[Message, Fused, Pending]):
    """A request's entry is its K outputs and their count."""

    def __init__(self, pending: Pending | None) -> None:
        self._pending = pending or {}

    def on_batch(self, values: list[Message]) -> tuple[list[Fused], bool]:
        pending, index = self._pending, given.INDEX
        done: list[tuple[bytes, list[Any]]] = []
        for message in values:
            answer = given.read(message.value)
            entry = pending.get(message.key)
            if entry is None:
                entry = pending[message.key] = [None] * _K + [0]
            k = index[answer.member]
            if entry[k] is None:
                entry[k] = answer.output
                entry[_K] += 1
                if entry[_K] == _K:
                    del pending[message.key]
                    done.append((message.key, entry))
        return (_fused(done) if done else []), False

    def snapshot(self) -> Pending:
        return {key: list(entry) for key, entry in self._pending.items()}


def _fused(done: list[tuple[bytes, list[Any]]]) -> list[Fused]:
    components = np.array([entry[:_K] for _, entry in done])
    outputs = np.einsum("k,nkc->nc", np.array(WEIGHTS), components).tolist()
    return [
        KafkaSinkMessage(key, given.record(key.decode(), output, entry[:_K]))
        for (key, entry), output in zip(done, outputs, strict=True)
    ]


def main() -> None:
    """Run until killed."""
    flow = Dataflow("partitioned")
    keyed = op.map(
        "keyed", source(flow, "in", given.INPUTS), lambda message: (str(message.partition), message)
    )
    joined = op.stateful_batch("join", keyed, Partition)
    run(flow, op.map("fused", joined, lambda pair: pair[1]))


if __name__ == "__main__":
    main()
