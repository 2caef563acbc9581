"""What the Python peers are given, and how they read a prediction and write a fused record."""

from __future__ import annotations

import os

import msgspec
import orjson

from benchmarks.task import CLASSES, MEMBERS, WEIGHTS

BOOTSTRAP = os.environ["BENCH_BOOTSTRAP"]
GROUP = os.environ["BENCH_GROUP"]
INPUTS = os.environ["BENCH_INPUTS"].split(",")
OUTPUT = os.environ["BENCH_OUTPUT"]
FOLDER = os.environ["BENCH_FOLDER"]
INDEX = {member: k for k, member in enumerate(MEMBERS)}
COMMIT_S = 1.0
LINGER_MS = int(os.environ["BENCH_LINGER_MS"])
BATCH_BYTES = 262_144


class Prediction(msgspec.Struct, gc=False):
    """The fields a peer needs; the record's key is the request id."""

    member: str
    output: list[float]


read = msgspec.json.Decoder(Prediction).decode


def fuse(components: list[list[float]]) -> list[float]:
    """The weighted mean of one request's outputs, K x C."""
    return [
        sum(w * x for w, x in zip(WEIGHTS, column, strict=True)) for column in zip(*components, strict=True)
    ]


def record(request_id: str, output: list[float], components: list[list[float]]) -> bytes:
    """The value of a fused record."""
    return orjson.dumps(
        {
            "request_id": request_id,
            "status": "complete",
            "output": output,
            "label": CLASSES[output.index(max(output))],
            "components": dict(zip(MEMBERS, components, strict=True)),
            "weights_version": 1,
        }
    )
