"""Fused records off the topic, single or columnar, as the answers that labels are charged against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any, Final, NamedTuple

import numpy as np

from stream_ensemble.columnar import fuseds
from stream_ensemble.columnar.forms import form_of
from stream_ensemble.core.labels.answers import keep_answer, keep_answers, rows_kept
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.matching import Charge, take_answer, take_answers
from stream_ensemble.core.labels.records import Answer
from stream_ensemble.core.labels.rules import Rules
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import FORMAT_COLUMNS, HEADER_CREDIT, CreditBlock

_FORMS: Final = (FORMAT_COLUMNS,)


class _Rows(NamedTuple):
    """The answers in a columnar record, by request id, and the credit blocks it carries."""

    answers: Mapping[str, Answer]
    blocks: Mapping[str, CreditBlock]


def take(changes: Changes, rules: Rules, record: Any, offset: int, appended: int) -> Sequence[Charge]:
    """Take a record of the fused topic in, with the labels that waited for it.

    Raises:
        RecordError: it cannot be read; nothing of it is taken in.
    """
    if form_of(record, _FORMS) is None:
        return take_answer(changes, rules, _request_id(record), Answer(offset, appended, record.value))
    return take_answers(changes, rules, *_rows(record, offset, appended), appended)


def keep(changes: Changes, record: Any, offset: int, appended: int) -> None:
    """The same without the labels: what a refill of the local store needs.

    Raises:
        RecordError: it cannot be read.
    """
    if form_of(record, _FORMS) is None:
        keep_answer(changes, _request_id(record), Answer(offset, appended, record.value))
    else:
        keep_answers(changes, *_rows(record, offset, appended), appended)


def _request_id(record: Any) -> str:
    if not record.key:
        raise RecordError("null-key", "a fused record without a key")
    if record.value is None:
        raise RecordError("empty-value", "a fused record without a value")
    try:
        return str(record.key.decode())
    except UnicodeDecodeError:
        raise RecordError("wrong-field", "the key of a fused record is not UTF-8") from None


def _rows(record: Any, offset: int, appended: int) -> _Rows:
    blocks = next((value for name, value in record.headers if name == HEADER_CREDIT), None)
    batch = fuseds.unpack(record.value or b"", blocks)
    # JSON has no such numbers, and one of them would spoil all that was ever learned.
    if not np.isfinite(batch.components).all():
        raise RecordError("wrong-field", "column component: a number is not finite")
    head = batch.head
    values = rows_kept(head.members, batch.components, head.segment, head.credit, head.shadow, head.warm)
    answers = map(Answer, repeat(offset), repeat(appended), values)
    return _Rows(dict(zip(map(bytes.decode, batch.ids), answers, strict=True)), batch.blocks or {})
