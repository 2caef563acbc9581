"""What is kept of a fused record until a label comes: the outputs and the credit it was made with.

It is read once, when it comes, and kept as numbers behind what answers alike have in common: a quarter of the
record, and a label finds it without reading JSON. What cannot be read, or has numbers that no output of the
task has, is kept as it came, for its label to say so: of the others a label looks at the head alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import chain
from struct import Struct as Layout
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.outputs import Outputs
from stream_ensemble.core.labels.records import Answer
from stream_ensemble.core.learning import credit_block
from stream_ensemble.errors import RecordError, StateError
from stream_ensemble.messages import UNREADABLE, Credit, CreditBlock, Name

#: The smallest and the largest number that an output of a task has, see ``Domain.bounds``.
Bounds = tuple[float, float]
#: Stands in a fused record's bytes exactly when it carries credit blocks (or, harmlessly, by chance).
_CARRIES_BLOCKS = b'"blocks"'
#: No JSON begins with such a byte; a map in MessagePack, in which older versions kept rows, does.
_ROWS_BEGIN = b"\x80"
#: Nothing in JSON or MessagePack begins with this one. Behind it the length of the head.
_PACKED = b"\xc1"
_LENGTH = Layout("<I")
_HEAD_AT = len(_PACKED) + _LENGTH.size


class Head(Struct, frozen=True, array_like=True):
    """What is kept of a fused record beside the outputs, which have ``classes`` numbers each."""

    members: tuple[str, ...]
    classes: int
    segment: str | None
    credit: Credit | None
    shadow: tuple[str, ...] = ()
    warm: dict[str, float] | None = None


class Credited(Struct, omit_defaults=True):
    """The part of a fused record that the learner needs. Of ``components`` those in ``shadow`` are no part of
    the answer.

    Attributes:
        head: the bytes that all answers have in common which differ in their outputs only; empty: not known.
    """

    components: Mapping[str, list[float]]
    segment: str | None = None
    credit: Credit | None = None
    shadow: tuple[str, ...] = ()
    warm: dict[str, float] | None = None
    head: bytes = b""


class _Written(Struct):
    """The same in the record."""

    components: dict[str, list[float]]
    segment: Name | None = None
    credit: Credit | None = None
    shadow: tuple[str, ...] = ()
    warm: dict[str, float] | None = None


_decode = msgspec.json.Decoder(_Written).decode
_decode_row = msgspec.msgpack.Decoder(_Written).decode
_encode_row = msgspec.msgpack.Encoder().encode
_encode_head = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(Head).decode
_layout = lru_cache(256)(lambda count: Layout(f"<{count}d"))


def rows_kept(
    members: tuple[str, ...],
    outputs: NDArray[np.floating[Any]],
    segment: str | None,
    credit: Credit | None,
    shadow: tuple[str, ...] = (),
    warm: dict[str, float] | None = None,
    *,
    bounds: Bounds,
) -> list[bytes]:
    """What ``Answer.value`` is for each row of a columnar fused record.

    Args:
        members: the A members awake, with those in ``shadow``.
        outputs: R x A x C.
        credit: digests only.
    """
    rows, _, classes = outputs.shape
    before = _before(Head(members, classes, segment, credit, shadow, warm))
    numbers = np.ascontiguousarray(outputs, "<f8").reshape(rows, -1)
    kept = [before + row.tobytes() for row in numbers]
    for row in np.flatnonzero(((numbers < bounds[0]) | (numbers > bounds[1])).any(axis=1)).tolist():
        components = dict(zip(members, outputs[row].tolist(), strict=True))
        kept[row] = _encode_row(_Written(components, segment, credit, shadow, warm))
    return kept


def _packed(found: _Written, bounds: Bounds) -> bytes | None:
    """What is kept of a single one; None where its outputs are not of one length, or out of bounds."""
    outputs = found.components.values()
    lengths = set(map(len, outputs))
    if len(lengths) > 1 or any(min(x) < bounds[0] or max(x) > bounds[1] for x in outputs if x):
        return None
    classes = lengths.pop() if lengths else 0
    before = _before_single(found, tuple(found.components), classes)
    return before + _layout(len(outputs) * classes).pack(*chain.from_iterable(outputs))


def begin_kept(names: tuple[bytes, ...], classes: int, fields: tuple[bytes, ...]) -> bytes | None:
    """What stands before the numbers that are kept of single records which have all this in common.

    Args:
        names: of the members awake, with those in shadow.
        classes: how many numbers each output has.
        fields: others that are kept, each as its name and value in JSON.

    Returns:
        None where such a record has to be read whole: it carries credit blocks, or cannot be read.
    """
    try:
        found = _decode(b'{"components":{}' + b"".join(b"," + field for field in fields) + b"}")
        members = tuple(name.decode() for name in names)
    except UNREADABLE:
        return None
    if len(set(members)) < len(members) or (found.credit is not None and found.credit.blocks):
        return None
    return _before_single(found, members, classes)


def _before_single(found: _Written, members: tuple[str, ...], classes: int) -> bytes:
    credit = found.credit
    if credit is not None and credit.blocks is not None:
        credit = msgspec.structs.replace(credit, blocks=None)
    if found.warm:
        return _before(Head(members, classes, found.segment, credit, found.shadow, found.warm))
    return _before_alike(members, classes, found.segment, credit, found.shadow)


def _before(head: Head) -> bytes:
    raw = _encode_head(head)
    return _PACKED + _LENGTH.pack(len(raw)) + raw


@lru_cache(4096)
def _before_alike(
    members: tuple[str, ...],
    classes: int,
    segment: str | None,
    credit: Credit | None,
    shadow: tuple[str, ...],
) -> bytes:
    return _before(Head(members, classes, segment, credit, shadow))


@lru_cache(4096)
def head_of(raw: bytes) -> Head:
    """The head that ``Credited.head`` is."""
    return _decode_head(raw)


def as_written(value: bytes) -> bytes:
    """A single fused record as it is kept until its label comes. One that begins as only what is packed here
    may begin is no JSON and must not be taken for that: it is kept as nothing, which cannot be read either.
    """
    return value if value[:1] < _ROWS_BEGIN else b""


def credited(answer: Answer) -> Credited:
    """What was kept of a fused record.

    Raises:
        RecordError: ``fused-unreadable``: it was no fused record.
    """
    raw, numbers = head_and_numbers(answer.value)
    if not raw:
        found = _written(answer)
        return Credited(found.components, found.segment, found.credit, found.shadow, found.warm)
    head = head_of(raw)
    outputs = Outputs(head.members, numbers)
    return Credited(outputs, head.segment, head.credit, head.shadow, head.warm, raw)


def head_and_numbers(value: bytes) -> tuple[bytes, bytes]:
    """The two parts of what was kept of a fused record; both empty where it was kept as it came."""
    if value[:1] != _PACKED:
        return b"", b""
    end = _HEAD_AT + _LENGTH.unpack_from(value, len(_PACKED))[0]
    return value[_HEAD_AT:end], value[end:]


def _written(answer: Answer) -> _Written:
    decode = _decode if answer.value[:1] < _ROWS_BEGIN else _decode_row
    try:
        return decode(answer.value)
    except UNREADABLE as error:
        detail = f"fused record at offset {answer.offset}: {error}"
        raise RecordError("fused-unreadable", detail) from error


def keep_answer(changes: Changes, bounds: Bounds, request_id: str, answer: Answer) -> Answer:
    """Keep a single fused record and the credit blocks in it and teach nothing: what a refill of the store
    needs. Returns what is kept of it.

    Raises:
        RecordError: the record says that it carries credit blocks and cannot be read.
    """
    try:
        found = _written(answer)
    except RecordError:
        if _CARRIES_BLOCKS in answer.value:
            raise
    else:
        if found.credit is not None and found.credit.blocks:
            _keep_blocks(changes, found.credit.blocks, answer.appended)
        packed = _packed(found, bounds)
        if packed is not None:
            answer = Answer(answer.offset, answer.appended, packed)
    changes.answers[request_id] = answer
    return answer


def keep_answers(
    changes: Changes, answers: Mapping[str, Answer], blocks: Mapping[str, CreditBlock], appended: int
) -> None:
    """The same for the rows of a columnar record, which was appended at ``appended`` (ms) and carries
    ``blocks``.
    """
    _keep_blocks(changes, blocks, appended)
    changes.answers.update(answers)


def _keep_blocks(changes: Changes, blocks: Mapping[str, CreditBlock], appended: int) -> None:
    for digest, block in blocks.items():
        try:
            credit_block.decode(digest, block)
        except StateError:
            # Never guessed: labels that need it go to dead-letter.
            changes.counts["credit-damaged"] += 1
        else:
            changes.blocks[digest] = (appended, block)
