"""Wire types, version 1: what stands in the Kafka topics of an ensemble.

JSON with ``version`` and ``kind``; unknown fields are ignored, so a newer writer does not break an older reader.
``schemas/`` holds the same as JSON Schema, written from these classes (``python -m stream_ensemble.schemas``).

Times are integers, milliseconds since the epoch. Probabilities are in the order of the task's classes.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

VERSION = 1

RequestId = Annotated[str, Meta(min_length=1, max_length=256, description="Names the request; also the Kafka key.")]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Milliseconds = Annotated[int, Meta(ge=0, le=253_402_300_799_999, description="Milliseconds since the epoch.")]
Label = Annotated[int, Meta(ge=0)] | Annotated[str, Meta(min_length=1, max_length=256)]

#: ``[topic, partition, offset, row]``: where a prediction stands. ``row`` is 0 for a single record.
Source = tuple[str, int, int, int]


class Request(Struct, kw_only=True, omit_defaults=True):
    """One question: who is expected to answer, by when, in which segment. Optional in an ensemble."""

    version: Literal[1]
    kind: Literal["request"]
    request_id: RequestId
    at: Milliseconds | None = None
    segment: Name | None = None
    members: list[Name] | None = None
    deadline_ms: Annotated[int, Meta(gt=0)] | None = None
    features: msgspec.Raw | None = None


class Prediction(Struct, kw_only=True, omit_defaults=True, gc=False):
    """One member's answer to one request: exactly one of ``output``, ``abstain`` and ``error``."""

    version: Literal[1]
    kind: Literal["prediction"]
    request_id: RequestId
    member: Name
    #: When the request was made; every member copies it. Absent: the append time.
    at: Milliseconds | None = None
    #: Class probabilities, C numbers in the order of the task's classes.
    output: list[float] | None = None
    abstain: bool = False
    error: str | None = None
    segment: Name | None = None


class WeightsVersion(Struct, kw_only=True, frozen=True):
    """Which weights: generation (raised by a reset), labels learned, digest of the contributions' sequences."""

    generation: int
    n: int
    digest: str


class CreditBlock(Struct, kw_only=True, frozen=True):
    """What the learner needs to charge a label: the weights a request was fused with, over all members.

    ``values`` is base64 of little-endian float64; its layout is the algorithm's.
    """

    algorithm: str
    generation: int
    n: int
    members: tuple[str, ...]
    values: str


class Credit(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Digests of the credit blocks a request was fused with; ``blocks`` carries those first used here."""

    everywhere: str
    segment: str | None = None
    blocks: dict[str, CreditBlock] | None = None


Status = Literal["complete", "partial", "fallback", "expired"]
Cause = Literal["deadline", "silent", "unreadable", "capacity", "early", "quorum"]
Asleep = Literal["missing", "abstain", "error", "unneeded"]


class Fused(Struct, kw_only=True, omit_defaults=True):
    """The one terminal answer to a request."""

    version: Literal[1]
    kind: Literal["fused"]
    request_id: RequestId
    status: Status
    cause: Cause | None = None
    at: Milliseconds
    segment: Name | None = None
    #: Fused class probabilities; absent when ``expired``.
    output: list[float] | None = None
    #: The class with the largest probability; absent when ``expired``.
    label: str | None = None
    #: The outputs of the awake members.
    components: dict[str, list[float]]
    sources: dict[str, Source]
    #: Members without an output, and why.
    asleep: dict[str, Asleep] | None = None
    #: The weights the output was made with: awake members, sum 1.
    weights: dict[str, float] | None = None
    weights_version: WeightsVersion
    #: Why the weights may be older than a second, when they may: "redis".
    degraded: str | None = None
    credit: Credit | None = None
    #: Digest of the settings that shape a decision.
    config: str


class Feedback(Struct, kw_only=True, omit_defaults=True):
    """A label for a request: the class by name or by index. A later revision corrects an earlier one."""

    version: Literal[1]
    kind: Literal["feedback"]
    request_id: RequestId
    label: Label
    at: Milliseconds | None = None
    revision: Annotated[int, Meta(ge=0, le=2**53)] = 0
    weight: Annotated[float, Meta(gt=0, le=1e6)] = 1.0


class Weights(Struct, kw_only=True, omit_defaults=True):
    """Partition p's contribution to the weights of one (task, segment): additive sums and maxima.

    ``sums`` and ``maxima`` are base64 of little-endian float64, by arm and in the order of ``members``.
    """

    version: Literal[1]
    kind: Literal["weights"]
    task: Name
    segment: Name | None = None
    partition: int
    generation: int
    epoch: int
    sequence: int
    algorithm: str
    members: tuple[str, ...]
    n: int
    clock: float
    sums: dict[str, str]
    maxima: dict[str, str]


class Applied(Struct, kw_only=True, omit_defaults=True):
    """What became of a request's label: learned or parked, with the order key that decides between labels."""

    version: Literal[1]
    kind: Literal["applied"]
    request_id: RequestId
    state: Literal["learned", "parked"]
    label: Label
    revision: int
    weight: float = 1.0
    #: Append time of the label where it was first written.
    appended: Milliseconds
    #: ``[topic, partition, offset, row]`` where the label was first written: one seen before is a no-op.
    origin: Source
    #: Generation of the credit the label was charged against; a label of an older one changes nothing.
    generation: int = 0


class DeadLetter(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Headers of a dead-letter record; its key and value are the original bytes, unchanged."""

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    row: int = 0
    appended: Milliseconds


class Forwarded(Struct, kw_only=True, frozen=True):
    """Header of a record moved once to its canonical partition: where and when it was first written."""

    topic: str
    partition: int
    offset: int
    row: int
    appended: Milliseconds


#: Kafka header names.
HEADER_FORWARDED = "stream-ensemble-forwarded"
#: On late records, like ``Forwarded``: where the prediction was first written.
HEADER_SOURCE = "stream-ensemble-source"
HEADER_DEAD_LETTER = "stream-ensemble-dead-letter"
HEADER_TRACE = "traceparent"

Message = Request | Prediction | Fused | Feedback | Weights | Applied

__all__ = [
    "UNSET",
    "Applied",
    "Credit",
    "CreditBlock",
    "DeadLetter",
    "Feedback",
    "Forwarded",
    "Fused",
    "Message",
    "Prediction",
    "Request",
    "Source",
    "UnsetType",
    "Weights",
    "WeightsVersion",
]
