"""What the two bytewax peers share: Kafka in and out, the recovery store that keeps offsets and state once a
second (bytewax's way to at-least-once; it commits nothing to Kafka).
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow, Stream
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from benchmarks.peers import given

#: Of a partition; the flow works on those of all partitions before it reads on.
_AT_ONCE = 1_000

Message = KafkaSourceMessage[bytes | None, bytes | None]
Fused = KafkaSinkMessage[bytes, bytes]


def source(flow: Dataflow, name: str, topics: list[str]) -> Stream[Message]:
    """The records of ``topics``."""
    options = {"max.partition.fetch.bytes": str(1 << 20)}
    return op.input(
        name, flow, KafkaSource([given.BOOTSTRAP], topics, batch_size=_AT_ONCE, add_config=options)
    )


def run(flow: Dataflow, fused: Stream[Fused]) -> None:
    """Publish ``fused`` and run until killed."""
    options = {
        "linger.ms": str(given.LINGER_MS),
        "batch.size": str(given.BATCH_BYTES),
        "queue.buffering.max.messages": "500000",
    }
    op.output("out", fused, KafkaSink([given.BOOTSTRAP], given.OUTPUT, add_config=options))
    store = Path(given.FOLDER) / "recovery"
    store.mkdir()
    init_db_dir(store, 1)
    interval = timedelta(seconds=given.COMMIT_S)
    cli_main(flow, recovery_config=RecoveryConfig(store), epoch_interval=interval)
