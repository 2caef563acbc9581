"""Wire types, version 1: what stands in the Kafka topics of an ensemble.

JSON with ``version`` and ``kind``; unknown fields are ignored, so a newer writer does not break an older
reader. ``schemas/`` holds the same as JSON Schema, written from these classes by
``python -m stream_ensemble.schemas``.

Times are integers, milliseconds since the epoch. Probabilities are in the order of the task's classes.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

VERSION = 1
#: What a decoder of msgspec raises where bytes are not what it reads: it does not see to all of it itself.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
#: Most rows of one record: bounds what a record of nothing but wrong rows can cost.
MOST_ROWS = 65_536

RequestId = Annotated[
    str, Meta(min_length=1, max_length=256, description="Names the request; also the record's key.")
]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Milliseconds = Annotated[int, Meta(ge=0, le=253_402_300_799_999, description="Milliseconds since the epoch.")]
Partition = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Offset = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Row = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Revision = Annotated[int, Meta(ge=0, le=2**53)]
LabelWeight = Annotated[float, Meta(gt=0, le=1e6)]
Label = Annotated[int, Meta(ge=0, le=2**31 - 1)] | Annotated[str, Meta(min_length=1, max_length=256)]
#: Of a class or a horizon, as long as the settings allow.
PartName = Annotated[str, Meta(min_length=1, max_length=256)]
Part = Annotated[int, Meta(ge=0, le=2**31 - 1)] | PartName

Generation = Annotated[int, Meta(ge=0, le=2**31 - 1)]
#: As far as a double counts in ones, which is what Redis and JavaScript have.
Count = Annotated[int, Meta(ge=0, le=2**53)]

Source = Annotated[
    tuple[str, Partition, Offset, Row],
    Meta(
        description="[topic, partition, offset, row] of a record; row is 0 where a record is one prediction."
    ),
]


class Request(Struct, kw_only=True, omit_defaults=True):
    """One question: who is expected to answer, by when, in which segment. Optional in an ensemble."""

    version: Literal[1]
    kind: Literal["request"]
    request_id: RequestId
    at: Annotated[Milliseconds | None, Meta(description="When the request was made.")] = None
    segment: Annotated[
        Name | None, Meta(description="The context whose own weights are used, beside the global ones.")
    ] = None
    members: Annotated[
        list[Name] | None, Meta(description="Who is expected to answer; absent: every member.")
    ] = None
    deadline_ms: Annotated[
        Annotated[int, Meta(ge=1, le=86_400_000)] | None,
        Meta(description="Time from the append of the request's first record to the end of waiting."),
    ] = None
    # Not ``| None``: msgspec then reads only null here.
    features: Annotated[
        msgspec.Raw | UnsetType,
        Meta(description="What the members answer from; any JSON, opaque to the fuser."),
    ] = UNSET


class Prediction(Struct, kw_only=True, omit_defaults=True, gc=False):
    """One member's answer to one request: exactly one of ``output``, ``abstain`` and ``error``."""

    version: Literal[1]
    kind: Literal["prediction"]
    request_id: RequestId
    member: Annotated[Name, Meta(description="Who answers.")]
    at: Annotated[
        Milliseconds | None,
        Meta(description="When the request was made; every member copies it. Absent: the append time."),
    ] = None
    output: Annotated[
        list[float] | None,
        Meta(
            description="Class probabilities, in the order of the task's classes; of a forecast its numbers, "
            "in the order of its horizons."
        ),
    ] = None
    abstain: Annotated[bool, Meta(description="The member chooses not to answer.")] = False
    error: Annotated[str | None, Meta(description="Why the member cannot answer.")] = None
    segment: Annotated[Name | None, Meta(description="The request's segment, copied.")] = None


class WeightsVersion(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Which weights: of which generation, after how many labels."""

    generation: Annotated[Generation, Meta(description="Raised by a reset.")]
    n: Annotated[Count, Meta(description="Labels learned.")]
    digest: Annotated[str, Meta(description="Digest of the contributions' sequences.")]
    pin: Annotated[
        int | None,
        Meta(description="Number of the control record whose weights were used instead of the learned ones."),
    ] = None


class CreditBlock(Struct, kw_only=True, frozen=True):
    """What the learner needs to charge a label: the weights a request was fused with, over all members."""

    algorithm: Annotated[str, Meta(description="What learned them; says how `values` is laid out.")]
    generation: Annotated[Generation, Meta(description="Of the learner's state they come from.")]
    n: Annotated[Count, Meta(description="Labels that state had learned.")]
    members: Annotated[tuple[str, ...], Meta(description="All members, in the order of `values`.")]
    values: Annotated[
        str,
        Meta(
            description="Base64 of little-endian float64. Of a segment that has learned: two more, how far "
            "the global mixture and its own are believed."
        ),
    ]


Temperature = Annotated[float, Meta(ge=0.1, le=10)]


class Calibration(Struct, kw_only=True, frozen=True):
    """The temperatures a fused output was calibrated with: above 1 it was made less sure, below 1 surer."""

    confidence: Annotated[
        tuple[Temperature, Temperature, Temperature, Temperature, Temperature],
        Meta(
            description="Of the first class, where its log-odds were -2, 0, 2, 4 and 6; between two of these "
            "their logarithms are interpolated."
        ),
    ]
    rest: Annotated[Temperature, Meta(description="Of how the other classes share what is left.")]


class Credit(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Digests of the credit blocks a request was fused with; ``blocks`` carries those first used here."""

    everywhere: Annotated[str, Meta(description="Digest of the block of the global state.")]
    segment: Annotated[str | None, Meta(description="Digest of the block of the segment's state.")] = None
    blocks: Annotated[
        dict[str, CreditBlock] | None,
        Meta(description="By digest: the blocks that stand here first, or again after a minute."),
    ] = None
    calibration: Annotated[
        Calibration | None,
        Meta(
            description="What the output was calibrated with; a label is charged against what it was before."
        ),
    ] = None


Status = Literal["complete", "partial", "fallback", "expired"]
Cause = Literal["deadline", "silent", "unreadable", "capacity", "early", "quorum"]
Asleep = Literal["missing", "abstain", "error", "unneeded"]


class Fused(Struct, kw_only=True, omit_defaults=True):
    """The one terminal answer to a request."""

    version: Literal[1]
    kind: Literal["fused"]
    request_id: RequestId
    status: Annotated[
        Status,
        Meta(
            description="complete: all awaited answered; partial: enough did; fallback: the prior; expired."
        ),
    ]
    cause: Annotated[Cause | None, Meta(description="Why it is not complete.")] = None
    at: Annotated[Milliseconds, Meta(description="When the request was made.")]
    segment: Annotated[Name | None, Meta(description="The request's segment.")] = None
    output: Annotated[
        list[float] | None,
        Meta(
            description="The fused class probabilities, in the order of the task's classes, or the fused "
            "numbers, in the order of its horizons; absent when expired."
        ),
    ] = None
    label: Annotated[
        str | None,
        Meta(
            description="The class with the largest probability; absent when expired, and where no class "
            "excludes the others."
        ),
    ] = None
    components: Annotated[
        dict[str, list[float]], Meta(description="The outputs of the awake members, by member.")
    ]
    sources: Annotated[dict[str, Source], Meta(description="Where each member's prediction stands.")]
    asleep: Annotated[dict[str, Asleep] | None, Meta(description="Members without an output, and why.")] = (
        None
    )
    weights: Annotated[
        dict[str, float] | None,
        Meta(description="The weights the output was made with, by awake member; they sum to 1."),
    ] = None
    weights_version: Annotated[WeightsVersion, Meta(description="Which weights.")]
    degraded: Annotated[
        str | None, Meta(description="Why the weights may be older than a second, when they may: redis.")
    ] = None
    credit: Annotated[
        Credit | None, Meta(description="What a label for this request is charged against.")
    ] = None
    shadow: Annotated[
        tuple[str, ...] | None,
        Meta(description="Components of members in shadow: in time, but no part of the answer."),
    ] = None
    warm: Annotated[
        dict[str, float] | None,
        Meta(
            description="Shares of the output that members just admitted have on top of what was learned, "
            "by awake member; they stand in `weights` too."
        ),
    ] = None
    config: Annotated[str, Meta(description="Digest of the settings that shape a decision.")]


class Feedback(Struct, kw_only=True, omit_defaults=True):
    """A label for a request: the class by name or by index. A later revision corrects an earlier one."""

    version: Literal[1]
    kind: Literal["feedback"]
    request_id: RequestId
    label: Annotated[Label, Meta(description="The class, by its name or by its index from 0.")]
    at: Annotated[Milliseconds | None, Meta(description="When the label was made.")] = None
    revision: Annotated[Revision, Meta(description="A later one corrects an earlier one.")] = 0
    weight: Annotated[LabelWeight, Meta(description="How much the label counts.")] = 1.0


class PartLabel(NamedTuple):
    """A label of one part of a request: of a class or a horizon, by its name or its index from 0."""

    part: str | int
    value: bool | float


#: A label as it arrives: of a whole request, or of a part of it.
AnyLabel = int | str | PartLabel


class PartFeedback(Struct, kw_only=True, omit_defaults=True):
    """A label for one part of a request: a class of a multi-label task, a horizon of a forecast. The parts of
    a request are labelled one by one, each when it is known.
    """

    version: Literal[1]
    kind: Literal["feedback"]
    request_id: RequestId
    part: Annotated[Part, Meta(description="The class or horizon, by its name or by its index from 0.")]
    label: Annotated[
        bool | float,
        Meta(
            description="Of a class: whether it is one of the request's (0 and 1 will do). Of a horizon: the "
            "number."
        ),
    ]
    at: Annotated[Milliseconds | None, Meta(description="When the label was made.")] = None
    revision: Annotated[
        Revision, Meta(description="A later one corrects an earlier one of the same part.")
    ] = 0
    weight: Annotated[LabelWeight, Meta(description="How much the label counts.")] = 1.0


class PredictionArrays(Struct, kw_only=True, omit_defaults=True):
    """N predictions of one member in one record. Every array given has N elements."""

    version: Literal[1]
    kind: Literal["predictions"]
    member: Annotated[Name, Meta(description="Who answers.")]
    request_ids: Annotated[
        list[RequestId], Meta(min_length=1, max_length=MOST_ROWS, description="The N requests.")
    ]
    outputs: Annotated[
        list[list[float] | None],
        Meta(description="As in a single prediction, V numbers each; null where there is no output."),
    ]
    ats: Annotated[
        list[Milliseconds | None] | None,
        Meta(description="When the requests were made; absent or null: the append time."),
    ] = None
    answers: Annotated[
        list[Literal["output", "abstain", "error"]] | None,
        Meta(description="How the member answered; absent: by what the other arrays hold."),
    ] = None
    errors: Annotated[
        list[str | None] | None, Meta(description="Why the member cannot answer; null where it can.")
    ] = None
    segments: Annotated[list[Name | None] | None, Meta(description="The requests' segments, copied.")] = None
    traceparents: Annotated[list[str | None] | None, Meta(description="W3C trace contexts.")] = None


class FeedbackArrays(Struct, kw_only=True, omit_defaults=True):
    """N labels in one record. Every array given has N elements."""

    version: Literal[1]
    kind: Literal["feedbacks"]
    request_ids: Annotated[
        list[RequestId], Meta(min_length=1, max_length=MOST_ROWS, description="The N requests.")
    ]
    labels: Annotated[list[Label], Meta(description="The classes, by name or by index from 0.")]
    ats: Annotated[list[Milliseconds | None] | None, Meta(description="When the labels were made.")] = None
    revisions: Annotated[
        list[Revision] | None,
        Meta(description="A later one corrects an earlier one; absent: 0."),
    ] = None
    weights: Annotated[
        list[LabelWeight] | None,
        Meta(description="How much the labels count; absent: 1."),
    ] = None


class PartFeedbackArrays(Struct, kw_only=True, omit_defaults=True):
    """N labels for parts of requests in one record. Every array given has N elements."""

    version: Literal[1]
    kind: Literal["feedbacks"]
    request_ids: Annotated[
        list[RequestId],
        Meta(
            min_length=1, max_length=MOST_ROWS, description="The N requests; one may stand there repeatedly."
        ),
    ]
    parts: Annotated[list[Part], Meta(description="The classes or horizons, by name or by index from 0.")]
    labels: Annotated[
        list[bool | float], Meta(description="Of classes: true or false, 1 or 0. Of horizons: the numbers.")
    ]
    ats: Annotated[list[Milliseconds | None] | None, Meta(description="When the labels were made.")] = None
    revisions: Annotated[
        list[Revision] | None,
        Meta(description="A later one corrects an earlier one of the same part; absent: 0."),
    ] = None
    weights: Annotated[
        list[LabelWeight] | None,
        Meta(description="How much the labels count; absent: 1."),
    ] = None


class Trial(Struct, kw_only=True, omit_defaults=True):
    """What a member in shadow said of a request after its end. Fusers write it to the feedback topic, where
    the learner scores it; the learner keeps it in the applied topic.
    """

    version: Literal[1]
    kind: Literal["trial"]
    request_id: RequestId
    member: Annotated[Name, Meta(description="Who answered.")]
    output: Annotated[list[float], Meta(description="As in its prediction.")]
    appended: Annotated[Milliseconds, Meta(description="Append time of the prediction.")]
    source: Annotated[Source, Meta(description="Where the prediction stands.")]


class Weights(Struct, kw_only=True, omit_defaults=True):
    """Partition p's contribution to the weights of one (task, segment): additive sums and maxima."""

    version: Literal[1]
    kind: Literal["weights"]
    task: Annotated[Name, Meta(description="Name of the task.")]
    segment: Annotated[Name | None, Meta(description="Absent: the global state.")] = None
    partition: Annotated[Partition, Meta(description="Whose contribution this is.")]
    generation: Annotated[Generation, Meta(description="Raised by a reset; an older one changes nothing.")]
    epoch: Annotated[Count, Meta(description="Of the owner that wrote it; an older owner's write loses.")]
    sequence: Annotated[Count, Meta(description="Counts the owner's writes.")]
    algorithm: Annotated[str, Meta(description="What learned it; says which sums and maxima there are.")]
    members: Annotated[tuple[str, ...], Meta(description="The order of the numbers.")]
    n: Annotated[Count, Meta(description="Labels learned.")]
    clock: Annotated[float, Meta(ge=0, description="What the sums are discounted to.")]
    sums: Annotated[
        dict[str, str], Meta(description="Base64 of little-endian float64, by arm; partitions' sums add up.")
    ]
    maxima: Annotated[dict[str, str], Meta(description="The same, of what is combined by the larger one.")]


class Applied(Struct, kw_only=True, omit_defaults=True):
    """What became of a request's label: learned or parked, with the order key that decides between labels."""

    version: Literal[1]
    kind: Literal["applied"]
    request_id: RequestId
    state: Annotated[
        Literal["learned", "parked"], Meta(description="learned, or parked until its fused record comes.")
    ]
    label: Annotated[
        Label,
        Meta(description="The class, by its name or by its index from 0; of a part what it is said to be."),
    ]
    part: Annotated[
        PartName | None, Meta(description="Of the request, which the label is about; absent: the whole.")
    ] = None
    revision: Annotated[Revision, Meta(description="Of the label.")]
    weight: Annotated[LabelWeight, Meta(description="Of the label.")] = 1.0
    appended: Annotated[
        Milliseconds, Meta(description="Append time of the label where it was first written.")
    ]
    origin: Annotated[
        Source, Meta(description="Where the label was first written: one seen before is a no-op.")
    ]
    generation: Annotated[
        Generation,
        Meta(description="Of the credit it was charged against; a label of an older one changes nothing."),
    ] = 0


ControlNumber = Annotated[
    int,
    Meta(
        ge=1, le=2**53, description="Of the control record; where two are about the same, the larger counts."
    ),
]
ControlId = Annotated[
    str,
    Meta(min_length=1, max_length=64, description="Tells records of one number apart; the larger counts."),
]
Authority = Annotated[
    Literal["operator", "guardrail", "admission"],
    Meta(description="Who sends it; an operator's pin comes first."),
]
WarmShare = Annotated[
    float, Meta(ge=0, lt=1, description="Of admit: the member's first share of the output, on top.")
]
WarmLabels = Annotated[
    float, Meta(ge=0, description="Of admit: labels of the member over which that share falls to nothing.")
]


class PinnedWeights(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Weights to fuse with instead of the learned ones."""

    weights: Annotated[
        dict[Name, Annotated[float, Meta(ge=0)]],
        Meta(description="By member, for a mean of the outputs; an absent one is 0."),
    ]
    credit: Annotated[
        CreditBlock | None,
        Meta(
            description="The same as an algorithm's credit, used instead while the ensemble has this "
            "algorithm and these members."
        ),
    ] = None
    calibration: Annotated[
        Calibration | None,
        Meta(description="With `credit`, and used with it: what the outputs are calibrated with."),
    ] = None


class Control(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """An order to the learner, the same in every partition of the feedback topic."""

    version: Literal[1]
    kind: Literal["control"]
    number: ControlNumber
    id: ControlId
    action: Annotated[
        Literal["pin", "unpin", "reset", "admit", "retire"],
        Meta(
            description="pin: fuse with the weights given, learning goes on; unpin: with the learned ones "
            "again; reset: forget everything learned; admit: await a member and give it weight; retire: put "
            "it into shadow."
        ),
    ]
    by: Authority = "operator"
    at: Annotated[Milliseconds | None, Meta(description="When it was sent.")] = None
    segment: Annotated[
        Name | None, Meta(description="pin and unpin: of this segment's requests only; absent: of all.")
    ] = None
    pinned: Annotated[PinnedWeights | None, Meta(description="With pin: the weights.")] = None
    generation: Annotated[
        Generation | None,
        Meta(
            description="With reset: the generation to begin; a larger one stays. With admit: the one whose "
            "labels count for the warm start."
        ),
    ] = None
    member: Annotated[Name | None, Meta(description="With admit and retire: whom.")] = None
    share: WarmShare = 0.0
    labels: WarmLabels = 0.0


class Pin(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What the newest control record about one segment's weights says."""

    number: ControlNumber
    id: ControlId
    by: Authority = "operator"
    segment: Annotated[Name | None, Meta(description="Absent: the requests of all segments.")] = None
    at: Annotated[Milliseconds | None, Meta(description="When it was sent.")] = None
    pinned: Annotated[PinnedWeights | None, Meta(description="The weights; absent: unpinned.")] = None


class Admission(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What the newest control record about one member says, whatever the settings have it as."""

    member: Annotated[Name, Meta(description="Whom it is about.")]
    number: ControlNumber
    id: ControlId
    by: Authority = "operator"
    at: Annotated[Milliseconds | None, Meta(description="When it was sent.")] = None
    admitted: Annotated[bool, Meta(description="Absent: retired.")] = False
    generation: Annotated[Generation, Meta(description="Whose labels count for the warm start.")] = 0
    share: WarmShare = 0.0
    labels: WarmLabels = 0.0


class ControlState(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What the control records that one partition has applied come to."""

    number: Annotated[int, Meta(ge=0, description="The largest number applied; 0: none was.")]
    id: Annotated[str, Meta(description="The id that goes with it.")]
    pins: Annotated[tuple[Pin, ...], Meta(description="The newest of each authority and segment.")] = ()
    members: Annotated[tuple[Admission, ...], Meta(description="The newest of each member.")] = ()


class Controls(Struct, kw_only=True, omit_defaults=True):
    """Partition p's control state, beside its contributions in the weights topic."""

    version: Literal[1]
    kind: Literal["controls"]
    partition: Annotated[Partition, Meta(description="Whose state this is.")]
    generation: Annotated[Generation, Meta(description="Of the partition's contributions.")]
    epoch: Annotated[Count, Meta(description="Of the owner that wrote it; an older owner's write loses.")]
    sequence: Annotated[Count, Meta(description="Counts the owner's writes.")]
    state: Annotated[ControlState, Meta(description="What its control records come to.")]


class DeadLetter(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Headers of a dead-letter record; its key and value are the original bytes, unchanged."""

    reason: Annotated[str, Meta(description="A short stable word, for counting.")]
    detail: Annotated[
        str, Meta(description="One line for a person, with the field's path where there is one.")
    ]
    topic: Annotated[str, Meta(description="Where the record stood.")]
    partition: Annotated[Partition, Meta(description="Its partition there.")]
    offset: Annotated[Offset, Meta(description="Its offset there.")]
    row: Annotated[Row, Meta(description="Its row, in a record of many rows.")] = 0
    appended: Annotated[Milliseconds, Meta(description="Its append time there.")]


class Forwarded(Struct, kw_only=True, frozen=True):
    """Header of a record moved once to its canonical partition: where and when it was first written."""

    topic: Annotated[str, Meta(description="Where the record was first written.")]
    partition: Annotated[Partition, Meta(description="Its partition there.")]
    offset: Annotated[Offset, Meta(description="Its offset there.")]
    row: Annotated[Row, Meta(description="Its row, in a record of many rows.")]
    appended: Annotated[Milliseconds, Meta(description="Its append time there.")]


#: Kafka header names.
HEADER_FORWARDED = "stream-ensemble-forwarded"
#: On late records, like ``Forwarded``: where the prediction was first written.
HEADER_SOURCE = "stream-ensemble-source"
HEADER_DEAD_LETTER = "stream-ensemble-dead-letter"
HEADER_TRACE = "traceparent"
#: On records of many rows: which form the value has. Absent: one JSON message.
HEADER_FORMAT = "stream-ensemble-format"
#: Binary columns, see ``schemas/columnar.md``.
FORMAT_COLUMNS = b"columns-1"
#: JSON arrays: ``PredictionArrays`` or ``FeedbackArrays``.
FORMAT_ARRAYS = b"arrays-1"
#: On columnar fused records: the credit blocks that stand there first, JSON by digest.
HEADER_CREDIT = "stream-ensemble-credit"

Message = (
    Request
    | Prediction
    | PredictionArrays
    | Fused
    | Feedback
    | FeedbackArrays
    | PartFeedback
    | PartFeedbackArrays
    | Control
    | Trial
    | Weights
    | Controls
    | Applied
)

__all__ = [
    "UNSET",
    "Admission",
    "AnyLabel",
    "Applied",
    "Control",
    "ControlState",
    "Controls",
    "Credit",
    "CreditBlock",
    "DeadLetter",
    "Feedback",
    "FeedbackArrays",
    "Forwarded",
    "Fused",
    "Message",
    "PartFeedback",
    "PartFeedbackArrays",
    "PartLabel",
    "Pin",
    "PinnedWeights",
    "Prediction",
    "PredictionArrays",
    "Request",
    "Source",
    "Trial",
    "UnsetType",
    "Weights",
    "WeightsVersion",
]
