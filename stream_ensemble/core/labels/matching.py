"""Labels meet fused records: what each pair teaches, waits for, corrects, or why it cannot be used.

The outcome does not depend on how fused records and labels interleave: a request ends with the label of the
largest place (revision, then append time, then origin), charged once, whatever came first or twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.records import Answer, DeadLabel, Feedback, Verdict
from stream_ensemble.core.labels.rules import Rules
from stream_ensemble.core.learning import credit_block
from stream_ensemble.errors import RecordError, StateError
from stream_ensemble.messages import Credit, CreditBlock

#: Stands in a fused record's bytes exactly when it carries credit blocks (or, harmlessly, by chance).
_CARRIES_BLOCKS = b'"blocks"'


class Charge(NamedTuple):
    """One label to be charged against one answer: ``sign`` 1 adds it, -1 takes an earlier one back.

    ``first`` is set where the request is labelled for the first time: only then does n grow.
    """

    credit: Credit
    segment: str | None
    components: dict[str, list[float]]
    label: int
    weight: float
    sign: int
    first: bool


class _Credited(Struct):
    """The part of a fused record that the learner needs."""

    components: dict[str, list[float]]
    segment: str | None = None
    credit: Credit | None = None


_decode = msgspec.json.Decoder(_Credited).decode


def take_answer(changes: Changes, rules: Rules, request_id: str, answer: Answer) -> Sequence[Charge]:
    """Take a fused record in: keep it and its credit blocks, and learn the label that waited for it.

    Raises:
        RecordError: the record says that it carries credit blocks and cannot be read.
    """
    keep_answer(changes, request_id, answer)
    if not changes.parked_count():
        return ()
    waiting = changes.verdict(request_id)
    if waiting is None or waiting.learned:
        return ()
    changes.decide(request_id, None)
    return _learn(changes, rules, request_id, waiting, answer)


def keep_answer(changes: Changes, request_id: str, answer: Answer) -> None:
    """Keep a fused record and the credit blocks in it and teach nothing: what a refill of the store needs.

    Raises:
        RecordError: the record says that it carries credit blocks and cannot be read.
    """
    if _CARRIES_BLOCKS in answer.value:
        credit = _read(answer).credit
        for digest, block in (credit.blocks or {}).items() if credit else ():
            _keep_block(changes, digest, block, answer.appended)
    changes.answers[request_id] = answer


def _keep_block(changes: Changes, digest: str, block: CreditBlock, appended: int) -> None:
    try:
        credit_block.decode(digest, block)
    except StateError:
        # Never guessed: labels that need it go to dead-letter.
        changes.counts["credit-damaged"] += 1
    else:
        changes.blocks[digest] = (appended, block)


def take_labels(changes: Changes, rules: Rules, labels: Iterable[Feedback], fused_until: int) -> list[Charge]:
    """Take labels in, in the order of the feedback topic.

    Args:
        fused_until: the largest append time (ms) of a fused record read so far; 0 if none.
    """
    charges: list[Charge] = []
    for label in labels:
        try:
            name = rules.class_name(label.label)
        except RecordError as error:
            changes.refuse(_dead(label, error.reason, error.detail))
            continue
        verdict = Verdict(
            learned=False,
            label=name,
            revision=label.revision,
            weight=label.weight,
            appended=label.appended,
            origin=label.origin,
            record=label.record,
        )
        charges += _take_label(changes, rules, label.request_id, verdict, fused_until)
    return charges


def give_up_orphans(changes: Changes, rules: Rules, fused_until: int, limit: int) -> int:
    """Send parked labels past the orphan horizon to dead-letter, at most ``limit``; returns how many."""
    orphans = changes.parked(fused_until - rules.orphan_horizon_ms, limit)
    for request_id, verdict in orphans:
        changes.decide(request_id, None)
        changes.refuse(_orphan(rules, request_id, verdict))
    return len(orphans)


def _take_label(
    changes: Changes, rules: Rules, request_id: str, new: Verdict, fused_until: int
) -> Sequence[Charge]:
    before = changes.verdict(request_id)
    if before is not None and new.place <= before.place:
        changes.counts["duplicate" if new.label == before.label else "superseded"] += 1
        return ()
    answer = changes.answer(request_id)
    if answer is not None:
        return _learn(changes, rules, request_id, new, answer)
    if before is not None and before.learned:
        # Its fused record is gone, and those go only after the label horizon.
        changes.refuse(_too_late(rules, request_id, new))
    elif fused_until - new.appended > rules.orphan_horizon_ms:
        changes.refuse(_orphan(rules, request_id, new))
    else:
        changes.decide(request_id, new)
        changes.counts["parked" if before is None else "superseded"] += 1
    return ()


def _learn(changes: Changes, rules: Rules, request_id: str, new: Verdict, answer: Answer) -> Sequence[Charge]:
    """Charge a label against its answer, or refuse it; ``new`` has already won over what was there."""
    if new.appended - answer.appended > rules.label_horizon_ms:
        changes.refuse(_too_late(rules, request_id, new))
        return ()
    before = changes.verdict(request_id)
    if before is not None and not before.learned:
        before = None
    try:
        fused = _read(answer)
        blocks = _blocks(changes, fused)
        _check(rules, fused, blocks, before)
    except RecordError as error:
        changes.refuse(_dead_verdict(request_id, new, error.reason, error.detail))
        return ()
    generation = blocks[0].generation if blocks else 0
    changes.decide(request_id, msgspec.structs.replace(new, learned=True, generation=generation, record=b""))
    if fused.credit is None or not fused.components:
        changes.counts["taught-nothing"] += 1
        return ()
    if before is not None and (before.label, before.weight) == (new.label, new.weight):
        changes.counts["duplicate"] += 1
        return ()
    changes.counts["learned" if before is None else "corrected"] += 1
    return _charges(rules, fused, fused.credit, before, new)


def _charges(
    rules: Rules, fused: _Credited, credit: Credit, before: Verdict | None, new: Verdict
) -> Sequence[Charge]:
    added = Charge(
        credit, fused.segment, fused.components, rules.index[new.label], new.weight, 1, before is None
    )
    if before is None:
        return (added,)
    return added._replace(label=rules.index[before.label], weight=before.weight, sign=-1), added


def _read(answer: Answer) -> _Credited:
    try:
        return _decode(answer.value)
    except msgspec.DecodeError as error:
        detail = f"fused record at offset {answer.offset}: {error}"
        raise RecordError("fused-unreadable", detail) from error


def _blocks(changes: Changes, fused: _Credited) -> list[CreditBlock]:
    if fused.credit is None:
        return []
    digests = [fused.credit.everywhere] + ([fused.credit.segment] if fused.credit.segment else [])
    blocks = []
    for digest in digests:
        block = changes.block(digest)
        if block is None:
            raise RecordError("credit-not-found", f"no fused record carries credit block {digest}")
        blocks.append(block)
    return blocks


def _check(rules: Rules, fused: _Credited, blocks: list[CreditBlock], before: Verdict | None) -> None:
    """What a fused record of our own always fulfils, so that one foreign record cannot stop the learner."""
    if any(len(output) != len(rules.classes) for output in fused.components.values()):
        raise RecordError("fused-unreadable", f"an output does not have {len(rules.classes)} probabilities")
    for block in blocks:
        strangers = fused.components.keys() - set(block.members)
        if strangers:
            raise RecordError("credit-not-found", f"the credit block does not know {sorted(strangers)}")
    if before is not None and before.label not in rules.index:
        raise RecordError("unknown-class", f"the label to correct, {before.label!r}, is no class of the task")


def _too_late(rules: Rules, request_id: str, label: Verdict) -> DeadLabel:
    detail = f"appended more than {rules.label_horizon_ms / 1000:g} s after the fused record"
    return _dead_verdict(request_id, label, "label-horizon", detail)


def _orphan(rules: Rules, request_id: str, label: Verdict) -> DeadLabel:
    detail = f"no fused record of this request within {rules.orphan_horizon_ms / 1000:g} s"
    return _dead_verdict(request_id, label, "orphan", detail)


def _dead(label: Feedback, reason: str, detail: str) -> DeadLabel:
    return DeadLabel(reason, detail, label.request_id, label.appended, label.origin, label.record)


def _dead_verdict(request_id: str, label: Verdict, reason: str, detail: str) -> DeadLabel:
    return DeadLabel(reason, detail, request_id, label.appended, label.origin, label.record)
