"""What is kept of a fused record until a label comes: the outputs and the credit it was made with.

A single record is kept as it came, for reading it costs more than keeping it. Of a row of a columnar one only
this part is kept, and never as a text, which is slower to make and to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.records import Answer
from stream_ensemble.core.learning import credit_block
from stream_ensemble.errors import RecordError, StateError
from stream_ensemble.messages import UNREADABLE, Credit, CreditBlock, Name

#: Stands in a fused record's bytes exactly when it carries credit blocks (or, harmlessly, by chance).
_CARRIES_BLOCKS = b'"blocks"'
#: No JSON begins with such a byte; a map in MessagePack does.
_ROWS_BEGIN = b"\x80"


class Credited(Struct, omit_defaults=True):
    """The part of a fused record that the learner needs. Of ``components`` those in ``shadow`` are no part of
    the answer.
    """

    components: dict[str, list[float]]
    segment: Name | None = None
    credit: Credit | None = None
    shadow: tuple[str, ...] = ()
    warm: dict[str, float] | None = None


_decode = msgspec.json.Decoder(Credited).decode
_decode_row = msgspec.msgpack.Decoder(Credited).decode
_encode_row = msgspec.msgpack.Encoder().encode


def rows_kept(
    members: tuple[str, ...],
    outputs: NDArray[np.floating[Any]],
    segment: str | None,
    credit: Credit | None,
    shadow: tuple[str, ...] = (),
    warm: dict[str, float] | None = None,
) -> list[bytes]:
    """What ``Answer.value`` is for each row of a columnar fused record.

    Args:
        members: the A members awake, with those in ``shadow``.
        outputs: R x A x C.
        credit: digests only.
    """
    return [
        _encode_row(Credited(dict(zip(members, row, strict=True)), segment, credit, shadow, warm))
        for row in outputs.tolist()
    ]


def credited(answer: Answer) -> Credited:
    """What was kept of a fused record.

    Raises:
        RecordError: ``fused-unreadable``: it was no fused record.
    """
    decode = _decode if answer.value[:1] < _ROWS_BEGIN else _decode_row
    try:
        return decode(answer.value)
    except UNREADABLE as error:
        detail = f"fused record at offset {answer.offset}: {error}"
        raise RecordError("fused-unreadable", detail) from error


def keep_answer(changes: Changes, request_id: str, answer: Answer) -> None:
    """Keep a single fused record and the credit blocks in it and teach nothing: what a refill of the store
    needs.

    Raises:
        RecordError: the record says that it carries credit blocks and cannot be read.
    """
    if _CARRIES_BLOCKS in answer.value:
        credit = credited(answer).credit
        _keep_blocks(changes, (credit and credit.blocks) or {}, answer.appended)
    changes.answers[request_id] = answer


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
