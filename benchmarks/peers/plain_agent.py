"""The peer: a plain Faust agent as Faust's guide would write it: join in a dict, ``topic.send`` per fused
record.

State is lost in a crash, there are no deadlines, no dedup, no check of the input: less is asked of it than
of ours.
"""

from __future__ import annotations

from typing import Any

import faust

from benchmarks.peers import given
from benchmarks.task import CLASSES, MEMBERS, WEIGHTS

app = faust.App(
    given.GROUP,
    broker="kafka://" + given.BOOTSTRAP,
    datadir=f"{given.FOLDER}/data",
    id_format="{id}",
    topic_disable_leader=True,
    topic_allow_declare=False,
    stream_wait_empty=False,
    # The settings that did best for it: batches of 256 KiB, commits each second, Faust's own buffer.
    broker_commit_interval=given.COMMIT_S,
    producer_linger=given.LINGER_MS / 1000,
    producer_max_batch_size=given.BATCH_BYTES,
    producer_acks=-1,
)
predictions = app.topic(*given.INPUTS, value_serializer="json", key_type=bytes, key_serializer="raw")
fused = app.topic(given.OUTPUT, value_serializer="json", key_type=bytes, key_serializer="raw")
waiting: dict[str, dict[str, list[float]]] = {}


@app.agent(predictions)
async def fuse(stream: Any) -> None:
    """Collect the members' answers by request id; publish when all are there."""
    async for event in stream.events():
        answer = event.value
        request_id = answer["request_id"]
        components = waiting.setdefault(request_id, {})
        components[answer["member"]] = answer["output"]
        if len(components) < len(MEMBERS):
            continue
        del waiting[request_id]
        output = [
            sum(w * components[m][c] for w, m in zip(WEIGHTS, MEMBERS, strict=True))
            for c in range(len(CLASSES))
        ]
        record = {
            "request_id": request_id,
            "status": "complete",
            "output": output,
            "label": CLASSES[output.index(max(output))],
            "components": components,
            "weights_version": 1,
        }
        await fused.send(key=event.key, value=record)
