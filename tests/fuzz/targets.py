"""What is fuzzed: each reads bytes of anybody's, and may raise nothing but the error it promises."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np

from stream_ensemble.columnar import feedbacks, fuseds, part_feedbacks, predictions
from stream_ensemble.columnar.feedbacks import FeedbackBatch
from stream_ensemble.columnar.predictions import PredictionBatch
from stream_ensemble.core.labels.answers import as_written, credited
from stream_ensemble.core.labels.records import Answer
from stream_ensemble.core.learning import contribution, credit_block
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.control import NOTHING
from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.core.tasks.domain import Domain
from stream_ensemble.core.tasks.forecast import Horizons
from stream_ensemble.core.tasks.multilabel import ManyLabels
from stream_ensemble.errors import RecordError, StateError
from stream_ensemble.kafka.decode_predictions import PredictionReader
from stream_ensemble.kafka.decode_requests import RequestReader
from stream_ensemble.learner.applied_topic import decode_applied, decode_trial
from stream_ensemble.learner.original import pack, unpack
from stream_ensemble.learner.reading import FeedbackReader
from stream_ensemble.messages import FORMAT_ARRAYS, HEADER_FORMAT, HEADER_FORWARDED, AnyLabel, PartLabel
from stream_ensemble.stores.contribution_field import (
    decode_field,
    decode_marker,
    encode_field,
    encode_marker,
    order_digits,
)
from stream_ensemble.stores.contributions import Key, Marker, Order
from stream_ensemble.stores.control_state import decode_state, encode_state
from stream_ensemble.stores.weights_topic import (
    decode_controls,
    decode_weights,
    encode_controls,
    encode_weights,
)
from tests.bad_input import CONTROL, ORIGIN, TRIAL, feedback, prediction, request
from tests.integration.learner_rows import asked, fused_records
from tests.raw_records import GZIP, LOG_APPEND_TIME, LZ4, SNAPPY, ZSTD, batch, chunk, record

MEMBERS = ["a", "b"]
KEY = Key("class", "s")
ORDER = Order(0, 1, 2)
PART = Contribution(("a", "b"), {"R": np.array([0.5, -1.0])}, {"B": np.array([1.0, 1.0])}, 3, 2.0)


class Target(NamedTuple):
    """A reader, bytes to begin from, and what else it may do than read them."""

    read: Callable[[bytes], Any]
    seeds: tuple[bytes, ...]
    errors: tuple[type[Exception], ...] = ()
    #: Does any change of the seeds have to be noticed?
    sealed: bool = False


class Bare(NamedTuple):
    """A record as the readers see it."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = []  # noqa: RUF012 - nobody adds to it


def _reader(*, plain: bool) -> PredictionReader:
    reader = PredictionReader(MEMBERS, [0, 0], Classes(("x", "y", "z"), 1e-6))
    if plain:
        reader.compiled = None
    return reader


COMPILED, PURE = _reader(plain=False), _reader(plain=True)


def _alike(raw: bytes, first: int = 0) -> None:
    """Compiled and plain readers make the same of a batch."""
    outcomes = []
    for reader in (COMPILED, PURE):
        part = chunk([raw], first)
        few = reader.few.read([(0, part)])
        taken = reader.take([(0, part)])
        rows = [
            (o, read.rows.ids[i], read.rows.member_of(i), read.rows.outputs[i].tobytes())
            for read in taken.reads
            for i, o in enumerate(read.rows.offsets.tolist())
        ]
        assert few is None or [one.request_id for one in few] == [row[1] for row in rows]
        outcomes.append(
            (sorted(rows), sorted((one.offset, one.row, str(one.error)) for one in taken.refused))
        )
    assert outcomes[0] == outcomes[1]


def _prediction(value: bytes) -> None:
    for headers in ([], [(HEADER_FORMAT.encode(), FORMAT_ARRAYS)], [(HEADER_FORWARDED.encode(), value)]):
        _alike(batch(record(0, None, value, headers), 1, LOG_APPEND_TIME))


def _records(codec: int) -> Callable[[bytes], None]:
    return lambda payload: _alike(batch(payload, 2, codec | LOG_APPEND_TIME))


def _columns(value: bytes, *headers: tuple[bytes, bytes | None]) -> Any:
    return chunk([batch(record(0, None, value, headers), 1, LOG_APPEND_TIME)]).columns()


def _request(value: bytes) -> None:
    read, refused = RequestReader(MEMBERS).read(0, _columns(value))
    assert (read is None) == bool(refused)


DOMAINS = (Classes(("x", "y", "z"), 1e-6), ManyLabels(("x", "y", "z")), Horizons(("x", "y", "z")))


def _feedback(value: bytes) -> None:
    for domain in DOMAINS:
        for headers in ([], [(HEADER_FORMAT.encode(), FORMAT_ARRAYS)], [(HEADER_FORWARDED.encode(), value)]):
            found = FeedbackReader("feedback", 0, 1, domain).read(_columns(value, *headers))
            assert found.here or found.elsewhere or found.refused or found.controls or found.trials
            for label in found.here:
                unpack(label.original())
                _meaning(domain, label.label)


def _meaning(domain: Domain, label: AnyLabel) -> None:
    """What a label says is a number the loss can take, now and when it has been kept."""
    try:
        meaning = domain.meaning(label)
    except RecordError:
        return
    assert np.isfinite(meaning.number)
    assert domain.kept(meaning.name, domain.parts[meaning.part] if domain.parts else None) == meaning


def _json(*trees: Any) -> tuple[bytes, ...]:
    return tuple(json.dumps(tree).encode() for tree in trees)


def _credit(value: bytes) -> None:
    said = msgspec.json.decode(value, type=dict[str, str])
    block = credit_block.encode("bank", 0, 0, ("a",), np.ones(1))[1]
    block = msgspec.structs.replace(block, values=said.get("values", ""))
    credit_block.decode(credit_block.digest_of(block), block)


def _packed() -> dict[int, bytes]:
    from tests.property.test_unreadable_batches import PACK

    payload = record(0, b"r", _json(prediction("r"))[0]) + record(1, None, _json(prediction("q", "b"))[0])
    return {0: payload} | {codec: pack_(payload) for codec, pack_ in PACK.items()}


PACKED = _packed()
TRIAL_BATCH = PredictionBatch("a", [b"r", b"q"], np.eye(3)[:2], np.array([1, 2]))
LABEL_BATCH = FeedbackBatch([b"r", b"q"], [0, 1], None, np.array([0, 1]), np.array([1.0, 0.5]))
PART_BATCH = FeedbackBatch([b"r", b"r"], [PartLabel(0, 1.0), PartLabel(2, -0.5)], None, np.array([0, 1]))
OF_PART = {"version": 1, "kind": "feedback", "request_id": "r", "part": "x", "label": 1.0, "revision": 2}
OF_PARTS = {
    "version": 1,
    "kind": "feedbacks",
    "request_ids": ["r", "r"],
    "parts": ["x", 1],
    "labels": [True, 0],
}
ANSWERS = tuple(
    record.value or b"" for _, record in fused_records(asked(["r", "q"]), columns=True, partitions=1)
)
FUSED = {"components": {"a": [1.0, 0.0, 0.0]}, "segment": "s", "credit": {"everywhere": "d", "blocks": {}}}

TARGETS: dict[str, Target] = {
    "prediction": Target(_prediction, _json(prediction("r"), prediction("r", "b", output=[1, 0, -0.0]))),
    "request": Target(_request, _json(request("r"))),
    "feedback": Target(_feedback, _json(feedback("r"), OF_PART, OF_PARTS, CONTROL, TRIAL, ORIGIN)),
    **{
        f"batch {name}": Target(_records(codec), (PACKED[codec],))
        for name, codec in {"plain": 0, "gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}.items()
    },
    "columnar predictions": Target(predictions.unpack, (predictions.pack(TRIAL_BATCH),), (RecordError,)),
    "columnar labels": Target(feedbacks.unpack, (feedbacks.pack(LABEL_BATCH),), (RecordError,)),
    "columnar labels of parts": Target(
        part_feedbacks.unpack, (part_feedbacks.pack(PART_BATCH),), (RecordError,)
    ),
    "columnar answers": Target(fuseds.unpack, ANSWERS, (RecordError,)),
    "fused": Target(lambda value: credited(Answer(0, 0, as_written(value))), _json(FUSED), (RecordError,)),
    "credit": Target(
        _credit, _json({"values": "AAAAAAAA8D8="}), (StateError, msgspec.MsgspecError, UnicodeDecodeError)
    ),
    "contribution": Target(contribution.from_bytes, (contribution.to_bytes(PART),), (StateError,), True),
    "field": Target(
        lambda raw: decode_field(KEY, 1, raw), (encode_field(KEY, 1, ORDER, b"value"),), (StateError,), True
    ),
    "marker": Target(
        lambda raw: decode_marker(1, raw), (encode_marker(1, Marker(ORDER, True)),), (StateError,), True
    ),
    "order": Target(order_digits, (encode_field(KEY, 1, ORDER, b"value"),)),
    "control state": Target(decode_state, (encode_state(NOTHING),), (StateError,)),
    "weights record": Target(decode_weights, (encode_weights(KEY, 1, ORDER, "bank", PART),), (StateError,)),
    "controls record": Target(decode_controls, (encode_controls(1, ORDER, NOTHING),), (StateError,)),
    "applied record": Target(
        lambda value: (decode_applied(Bare(b"r", value)), decode_applied(Bare(value or b"r", None))),
        _json({"version": 1, "kind": "applied", "request_id": "r", "state": "parked", "label": "x",
               "revision": 0, "appended": 1, "origin": ["t", 0, 0, 0]}),
        (StateError,),
    ),
    "trial record": Target(lambda value: decode_trial(Bare(b"r", value)), _json(TRIAL), (StateError,)),
    "kept record": Target(unpack, (pack(Bare(b"k", b"v", [("h", None)])),), (StateError,)),
}  # fmt: skip


def try_one(name: str, value: bytes) -> None:
    """Read it, by the target of that name.

    Raises:
        Exception: any but what it promises; AssertionError: a change went unnoticed.
    """
    target = TARGETS[name]
    try:
        target.read(value)
    except target.errors:
        return
    assert not target.sealed or value in target.seeds, f"{name}: a change is not noticed"
