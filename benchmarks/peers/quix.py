"""Quix Streams as its guide has it: the four topics as one stream, a stateful ``apply`` with state in RocksDB
and its changelog topics. At least once, commits each second. No deadlines, no check of the input.
"""

from __future__ import annotations

from typing import Any

import msgspec
from quixstreams import Application

from benchmarks.peers import given
from benchmarks.task import MEMBERS


class Prediction(given.Prediction):
    """The record's key is not at hand in ``apply``."""

    request_id: str


read = msgspec.json.Decoder(Prediction).decode


def join(value: bytes, state: Any) -> bytes | None:
    """Keep an answer; with the last one the fused record."""
    answer = read(value)
    components = state.get("components") or {}
    components[answer.member] = answer.output
    if len(components) < len(MEMBERS):
        state.set("components", components)
        return None
    state.delete("components")
    outputs = [components[member] for member in MEMBERS]
    return given.record(answer.request_id, given.fuse(outputs), outputs)


def main() -> None:
    """Run until killed."""
    app = Application(
        given.BOOTSTRAP,
        consumer_group=given.GROUP,
        auto_offset_reset="earliest",
        commit_interval=given.COMMIT_S,
        state_dir=f"{given.FOLDER}/state",
        loglevel="WARNING",
        producer_extra_config={
            "linger.ms": given.LINGER_MS,
            "batch.size": given.BATCH_BYTES,
            "queue.buffering.max.messages": 500_000,
            "acks": "all",
        },
    )
    inputs = [app.topic(name, key_deserializer="bytes", value_deserializer="bytes") for name in given.INPUTS]
    output = app.topic(given.OUTPUT, key_serializer="bytes", value_serializer="bytes")
    stream = app.dataframe(inputs[0])
    for topic in inputs[1:]:
        stream = stream.concat(app.dataframe(topic))
    stream = stream.apply(join, stateful=True)
    stream.filter(lambda value: value is not None).to_topic(output)
    app.run()


if __name__ == "__main__":
    main()
