"""The peer: a plain Faust agent as Faust's guide would write it: join in a dict, ``topic.send`` per fused
record.

State is lost in a crash, there are no deadlines, no dedup, no check of the input: less is asked of it than
of ours. Settings by environment: BENCH_BOOTSTRAP, BENCH_OUTPUT, BENCH_GROUP.
"""

from __future__ import annotations

import os
from typing import Any

import faust

from benchmarks.job import INPUTS, MEMBERS, WEIGHTS

app = faust.App(
    os.environ["BENCH_GROUP"],
    broker="kafka://" + os.environ["BENCH_BOOTSTRAP"],
    datadir=os.environ["BENCH_DATADIR"],
    id_format="{id}",
    topic_disable_leader=True,
    topic_allow_declare=False,
    stream_wait_empty=False,
    # The settings that did best for it: a large buffer, batches of 256 KiB, commits each second.
    stream_buffer_maxsize=65_536,
    broker_commit_interval=1.0,
    producer_linger=0.005,
    producer_max_batch_size=262_144,
    producer_acks=-1,
)
predictions = app.topic(*INPUTS, value_serializer="json", key_type=bytes, key_serializer="raw")
fused = app.topic(os.environ["BENCH_OUTPUT"], value_serializer="json", key_type=bytes, key_serializer="raw")
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
        output = [sum(w * components[m][c] for w, m in zip(WEIGHTS, MEMBERS, strict=True)) for c in range(3)]
        record = {"request_id": request_id, "status": "complete", "output": output, "components": components}
        await fused.send(key=event.key, value=record)
