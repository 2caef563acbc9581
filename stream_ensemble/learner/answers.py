"""Fused records off the topic, single or columnar, as the answers that labels are charged against."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any, Final, NamedTuple

import numpy as np

from stream_ensemble import compiled
from stream_ensemble.columnar import fuseds
from stream_ensemble.columnar.forms import form_of, has_form
from stream_ensemble.core.labels.answers import (
    Bounds,
    as_written,
    begin_kept,
    keep_answer,
    keep_answers,
    rows_kept,
)
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.matching import Charge, take_answer, take_answers
from stream_ensemble.core.labels.records import Answer
from stream_ensemble.core.labels.rules import Rules
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.chunks import Columns
from stream_ensemble.kafka.decode import Refused
from stream_ensemble.messages import FORMAT_COLUMNS, HEADER_CREDIT, CreditBlock

_FORMS: Final = (FORMAT_COLUMNS,)
#: Of how many kinds of answers what they have in common is remembered; a segment's are a kind.
_KINDS: Final = 4096
_new_answer = partial(tuple.__new__, Answer)

Refuse = Callable[[Refused], None]


class _Rows(NamedTuple):
    """The answers in a columnar record, by request id, and the credit blocks it carries."""

    answers: Mapping[str, Answer]
    blocks: Mapping[str, CreditBlock]


def take_all(changes: Changes, rules: Rules, columns: Columns, refuse: Refuse) -> list[Charge]:
    """Take records of the fused topic in, in their order, with the labels that waited for them.

    Args:
        refuse: told of each that cannot be read; nothing of it is taken in.
    """
    charges: list[Charge] = []

    def many(answers: Mapping[str, Answer]) -> None:
        charges.extend(take_answers(changes, rules, answers, {}, 0))

    def one(record: Any, offset: int, appended: int) -> None:
        charges.extend(take(changes, rules, record, offset, appended))

    _each(rules.domain.bounds, columns, many, one, refuse)
    return charges


def keep_all(changes: Changes, rules: Rules, columns: Columns, refuse: Refuse) -> None:
    """The same without the labels: what a refill of the local store needs."""
    _each(rules.domain.bounds, columns, changes.answers.update, partial(keep, changes, rules), refuse)


def take(changes: Changes, rules: Rules, record: Any, offset: int, appended: int) -> Sequence[Charge]:
    """Take a record of the fused topic in, with the label that waited for it.

    Raises:
        RecordError: it cannot be read; nothing of it is taken in.
    """
    if form_of(record, _FORMS) is None:
        return take_answer(changes, rules, *_single(record, offset, appended))
    return take_answers(changes, rules, *_rows(rules.domain.bounds, record, offset, appended), appended)


def keep(changes: Changes, rules: Rules, record: Any, offset: int, appended: int) -> None:
    """The same without the label.

    Raises:
        RecordError: it cannot be read.
    """
    if form_of(record, _FORMS) is None:
        keep_answer(changes, rules.domain.bounds, *_single(record, offset, appended))
    else:
        keep_answers(changes, *_rows(rules.domain.bounds, record, offset, appended), appended)


def _each(
    bounds: Bounds,
    columns: Columns,
    many: Callable[[Mapping[str, Answer]], Any],
    one: Callable[[Any, int, int], Any],
    refuse: Refuse,
) -> None:
    """Hand records over in their order: those the kernel reads many at a time, the others one by one."""
    offsets, appended = columns.offsets.tolist(), columns.appended.tolist()
    begin = 0
    ids, kept = _read(columns.records, bounds)
    for place in (*(place for place, value in enumerate(kept) if value is None), len(kept)):
        run = slice(begin, place)
        found = map(_new_answer, zip(offsets[run], appended[run], kept[run], strict=True))
        for answers in _once_each(ids[run], list(found)):
            many(answers)
        begin = place + 1
        if place == len(kept):
            return
        record = columns.records[place]
        try:
            one(record, offsets[place], appended[place])
        except RecordError as error:
            refuse(Refused(record, offsets[place], appended[place], error))


def _once_each(ids: Sequence[str | None], answers: Sequence[Answer]) -> Iterator[Mapping[str, Answer]]:
    """Answers by request id; one by one where a request has two, for the label that waits is its first's."""
    found: dict[Any, Answer] = dict(zip(ids, answers, strict=True))
    if len(found) == len(answers):
        yield found
        return
    for pair in zip(ids, answers, strict=True):
        yield dict([pair])  # type: ignore[list-item]


def _read(records: Sequence[Any], bounds: Bounds) -> tuple[list[str | None], list[bytes | None]]:
    """Request ids of R records and what is kept of each; None where it is to be read by itself."""
    if _KERNEL is None:
        return [None] * len(records), [None] * len(records)
    values = [None if record.headers and has_form(record) else record.value for record in records]
    return _KERNEL.read([record.key for record in records], values, *bounds)


def _kernel() -> compiled.reading.AnswerKernel | None:
    # It writes numbers as this machine has them.
    there = compiled.AVAILABLE and sys.byteorder == "little"
    return compiled.reading.AnswerKernel(begin_kept, _KINDS) if there else None


_KERNEL: Final = _kernel()


def _single(record: Any, offset: int, appended: int) -> tuple[str, Answer]:
    """Request id and answer of a record that is not columnar."""
    if not record.key:
        raise RecordError("null-key", "a fused record without a key")
    if record.value is None:
        raise RecordError("empty-value", "a fused record without a value")
    try:
        request_id = record.key.decode()
    except UnicodeDecodeError:
        raise RecordError("wrong-field", "the key of a fused record is not UTF-8") from None
    return request_id, Answer(offset, appended, as_written(record.value))


def _rows(bounds: Bounds, record: Any, offset: int, appended: int) -> _Rows:
    blocks = next((value for name, value in record.headers if name == HEADER_CREDIT), None)
    batch = fuseds.unpack(record.value or b"", blocks)
    # JSON has no such numbers, and one of them would spoil all that was ever learned.
    if not np.isfinite(batch.components).all():
        raise RecordError("wrong-field", "column component: a number is not finite")
    head = batch.head
    values = rows_kept(
        head.members, batch.components, head.segment, head.credit, head.shadow, head.warm, bounds=bounds
    )
    answers = map(Answer, repeat(offset), repeat(appended), values)
    return _Rows(dict(zip(map(bytes.decode, batch.ids), answers, strict=True)), batch.blocks or {})
