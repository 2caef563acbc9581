"""Labels meet fused records: what each pair teaches, waits for, corrects, or why it cannot be used.

The outcome does not depend on how fused records and labels interleave: a request ends with the label of the
largest place (revision, then append time, then origin), charged once, whatever came first or twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from stream_ensemble.core.labels.answers import (
    LARGEST,
    Credited,
    Head,
    credited,
    head_and_numbers,
    head_of,
    keep_answer,
    keep_answers,
)
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.outputs import Outputs
from stream_ensemble.core.labels.records import Answer, DeadLabel, Feedback, Verdict
from stream_ensemble.core.labels.rules import Rules
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import Credit, CreditBlock, Trial

#: An append time (ms) after all others.
_ANY_TIME = 2**62
_UNKNOWN: tuple[int, Head | None] = (0, None)
NO_TRIALS: Mapping[str, list[float]] = {}


class Charge(NamedTuple):
    """One label to be charged against one answer: ``sign`` 1 adds it, -1 takes an earlier one back.

    ``first`` is set where the request is labelled for the first time: only then does n grow.

    Attributes:
        trials: what members in shadow said, by name.
        warm: who had a warm share of the answer.
        late: the label was charged before: only ``trials`` are to be scored.
    """

    credit: Credit
    segment: str | None
    components: Mapping[str, list[float]]
    label: int
    weight: float
    sign: int
    first: bool
    trials: Mapping[str, list[float]] = NO_TRIALS
    warm: Collection[str] = ()
    late: bool = False


_new_charge = partial(tuple.__new__, Charge)


def take_answer(changes: Changes, rules: Rules, request_id: str, answer: Answer) -> Sequence[Charge]:
    """Take a single fused record in: keep it and its credit blocks, and learn the label that waited for it.

    Raises:
        RecordError: the record says that it carries credit blocks and cannot be read.
    """
    answer = keep_answer(changes, request_id, answer)
    return _learn_waiting(changes, rules, request_id, answer) if changes.parked_count() else ()


def take_answers(
    changes: Changes,
    rules: Rules,
    answers: Mapping[str, Answer],
    blocks: Mapping[str, CreditBlock],
    appended: int,
) -> Sequence[Charge]:
    """Take the rows of a columnar fused record in: ``keep_answers`` and the labels that waited for them."""
    keep_answers(changes, answers, blocks, appended)
    if not changes.parked_count():
        return ()
    charges: list[Charge] = []
    for request_id, answer in answers.items():
        charges += _learn_waiting(changes, rules, request_id, answer)
    return charges


def take_labels(changes: Changes, rules: Rules, labels: Sequence[Feedback], fused_until: int) -> list[Charge]:
    """Take labels in, in the order of the feedback topic.

    Args:
        fused_until: the largest append time (ms) of a fused record read so far; 0 if none.
    """
    charges: list[Charge] = []
    with changes.at_hand([label.request_id for label in labels]):
        trials = changes.has_trials()
        for label in labels:
            charge = None if trials else _first_of_alike(changes, rules, label)
            if charge is not None:
                charges.append(charge)
                continue
            try:
                charges += _take_label(changes, rules, label, fused_until)
            except RecordError as error:
                changes.refuse(
                    DeadLabel(
                        error.reason,
                        error.detail,
                        label.request_id,
                        label.appended,
                        label.origin,
                        label.original(),
                    )
                )
    return charges


def take_trials(changes: Changes, rules: Rules, trials: Iterable[Trial]) -> list[Charge]:
    """Take in what shadows said of requests after their end: each member's first counts, and only where it
    is not in the fused record. It waits for the label, or is scored by one that was learned already.
    """
    charges: list[Charge] = []
    for trial in trials:
        if trial.member in changes.trials(trial.request_id) or len(trial.output) != len(rules.classes):
            changes.counts["trial-refused"] += 1
            continue
        changes.keep_trial(trial)
        changes.counts["trial-late"] += 1
        verdict, answer = changes.verdict(trial.request_id), changes.answer(trial.request_id)
        if verdict is None or not verdict.learned or answer is None or verdict.label not in rules.index:
            continue
        try:
            fused = credited(answer)
            _check(rules, fused, _blocks(changes, fused), None)
        except RecordError:
            continue  # its label has said why
        of_late = _late(changes, rules, trial.request_id, fused, answer)
        if fused.credit is None or trial.member not in of_late:
            continue
        [charge] = _charges(rules, fused, fused.credit, None, verdict, NO_TRIALS)
        everywhere, only = Credit(everywhere=fused.credit.everywhere), {trial.member: trial.output}
        charges.append(
            charge._replace(credit=everywhere, segment=None, first=False, trials=only, warm=(), late=True)
        )
    return charges


def _late(
    changes: Changes, rules: Rules, request_id: str, fused: Credited, answer: Answer
) -> Mapping[str, list[float]]:
    """What counts of what shadows said after the end: within the label horizon, and not in time before."""
    if not changes.has_trials():
        return NO_TRIALS
    return {
        member: trial.output
        for member, trial in changes.trials(request_id).items()
        if member not in fused.components and trial.appended - answer.appended <= rules.label_horizon_ms
    }


def give_up_orphans(changes: Changes, rules: Rules, fused_until: int, limit: int) -> int:
    """Send parked labels past the orphan horizon to dead-letter, at most ``limit``; returns how many."""
    if not changes.parked_count():
        return 0
    orphans = changes.parked(fused_until - rules.orphan_horizon_ms, limit)
    for request_id, verdict in orphans:
        changes.decide_after(verdict, request_id, None)
        _refuse_waiting(changes, request_id, verdict, _orphan(rules))
    return len(orphans)


def give_up_excess(changes: Changes, most: int, limit: int) -> int:
    """Send the oldest parked labels to dead-letter where more than ``most`` wait, at most ``limit``; returns
    how many.
    """
    excess = min(changes.parked_count() - most, limit)
    if excess <= 0:
        return 0
    orphans = changes.parked(_ANY_TIME, excess)
    error = RecordError("orphan", f"no fused record of this request yet, and more than {most} labels wait")
    for request_id, verdict in orphans:
        changes.decide_after(verdict, request_id, None)
        _refuse_waiting(changes, request_id, verdict, error)
    return len(orphans)


def _learn_waiting(changes: Changes, rules: Rules, request_id: str, answer: Answer) -> Sequence[Charge]:
    """Learn the label that waited for this answer, if there is one."""
    waiting = changes.verdict(request_id)
    if waiting is None or waiting.learned:
        return ()
    changes.decide_after(waiting, request_id, None)
    try:
        return _learn(changes, rules, request_id, None, waiting, answer)
    except RecordError as error:
        _refuse_waiting(changes, request_id, waiting, error)
        return ()


def _first_of_alike(changes: Changes, rules: Rules, label: Feedback) -> Charge | None:
    """Learn a request's first label where one was charged in this flush against an answer that differs in its
    numbers only: what ``_take_label`` would do, without asking for everything again. None: it has to.
    """
    request_id, said, revision, weight, appended, origin, _ = label
    before, answer = changes.known(request_id)
    if answer is None or before is not None or appended - answer.appended > rules.label_horizon_ms:
        return None
    head, numbers = head_and_numbers(answer.value)
    generation, alike = changes.sound.get(head, _UNKNOWN)
    if alike is None or alike.credit is None or alike.shadow or not numbers:
        return None
    place = rules.place(said)
    if place is None:
        return None
    name = rules.classes[place]
    changes.decide_after(
        None, request_id, Verdict(True, name, revision, weight, appended, origin, generation)
    )
    changes.counts["learned"] += 1
    outputs = Outputs(alike.members, numbers)
    return _new_charge(
        (alike.credit, alike.segment, outputs, place, weight, 1, True, NO_TRIALS, alike.warm or (), False)
    )


def _take_label(changes: Changes, rules: Rules, label: Feedback, fused_until: int) -> Sequence[Charge]:
    """Learn a label or let it wait.

    Raises:
        RecordError: it cannot be used, and why.
    """
    request_id = label.request_id
    name = rules.class_name(label.label)
    new = Verdict(False, name, label.revision, label.weight, label.appended, label.origin)
    before = changes.verdict(request_id)
    if before is not None and new.place <= before.place:
        changes.counts["duplicate" if new.label == before.label else "superseded"] += 1
        return ()
    answer = changes.answer(request_id)
    if answer is not None:
        return _learn(changes, rules, request_id, before, new, answer)
    if before is not None and before.learned:
        # Its fused record is gone, and those go only after the label horizon.
        raise _too_late(rules)
    if fused_until - new.appended > rules.orphan_horizon_ms:
        raise _orphan(rules)
    parked = msgspec.structs.replace(new, record=label.original())
    changes.decide_after(before, request_id, parked)
    changes.counts["parked" if before is None else "superseded"] += 1
    return ()


def _learn(
    changes: Changes, rules: Rules, request_id: str, before: Verdict | None, new: Verdict, answer: Answer
) -> Sequence[Charge]:
    """Charge a label, which has won over the one ``before``, against its answer.

    Raises:
        RecordError: it cannot be charged, and why.
    """
    if new.appended - answer.appended > rules.label_horizon_ms:
        raise _too_late(rules)
    corrected = before if before is not None and before.learned else None
    fused = credited(answer)
    generation, alike = changes.sound.get(fused.head, _UNKNOWN)
    if alike is None or corrected is not None:
        blocks = _blocks(changes, fused)
        _check(rules, fused, blocks, corrected)
        generation = blocks[0].generation if blocks else 0
        if fused.head:
            changes.sound[fused.head] = generation, head_of(fused.head)
    learned = Verdict(True, new.label, new.revision, new.weight, new.appended, new.origin, generation)
    changes.decide_after(before, request_id, learned)
    if fused.credit is None or not _has_answer(fused):
        changes.counts["taught-nothing"] += 1
        return ()
    if corrected is not None and (corrected.label, corrected.weight) == (new.label, new.weight):
        changes.counts["duplicate"] += 1
        return ()
    changes.counts["learned" if corrected is None else "corrected"] += 1
    late = _late(changes, rules, request_id, fused, answer)
    return _charges(rules, fused, fused.credit, corrected, new, late)


def _has_answer(fused: Credited) -> bool:
    return bool(fused.components.keys() - set(fused.shadow) if fused.shadow else fused.components)


def _charges(
    rules: Rules,
    fused: Credited,
    credit: Credit,
    before: Verdict | None,
    new: Verdict,
    late: Mapping[str, list[float]],
) -> Sequence[Charge]:
    components, trials = fused.components, late
    if fused.shadow:
        components = {name: x for name, x in components.items() if name not in fused.shadow}
        trials = {name: fused.components[name] for name in fused.shadow if name in fused.components} | dict(
            late
        )
    added = Charge(
        credit,
        fused.segment,
        components,
        rules.index[new.label],
        new.weight,
        1,
        before is None,
        trials,
        fused.warm or (),
    )
    if before is None:
        return (added,)
    return added._replace(label=rules.index[before.label], weight=before.weight, sign=-1), added


def _blocks(changes: Changes, fused: Credited) -> list[CreditBlock]:
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


def _check(rules: Rules, fused: Credited, blocks: list[CreditBlock], before: Verdict | None) -> None:
    """What a fused record of our own always fulfils, so that one foreign record cannot stop the learner."""
    classes = len(rules.classes)
    for output in fused.components.values():
        if len(output) != classes:
            raise RecordError("fused-unreadable", f"an output does not have {classes} probabilities")
        if min(output) < 0.0 or max(output) > LARGEST:
            raise RecordError("fused-unreadable", "an output has numbers that are no probabilities")
    for block in blocks:
        strangers = fused.components.keys() - set(block.members) - set(fused.shadow)
        if strangers:
            raise RecordError("credit-not-found", f"the credit block does not know {sorted(strangers)}")
    if any(block.members != blocks[0].members for block in blocks):
        raise RecordError("credit-not-found", "the segment's credit block is about other members")
    if fused.credit is not None and fused.credit.segment is not None and fused.segment is None:
        raise RecordError("credit-not-found", "credit of a segment, but the fused record names none")
    if before is not None and before.label not in rules.index:
        raise RecordError("unknown-class", f"the label to correct, {before.label!r}, is no class of the task")


def _too_late(rules: Rules) -> RecordError:
    detail = f"appended more than {rules.label_horizon_ms / 1000:g} s after the fused record"
    return RecordError("label-horizon", detail)


def _orphan(rules: Rules) -> RecordError:
    detail = f"no fused record of this request within {rules.orphan_horizon_ms / 1000:g} s"
    return RecordError("orphan", detail)


def _refuse_waiting(changes: Changes, request_id: str, waiting: Verdict, error: RecordError) -> None:
    changes.refuse(
        DeadLabel(error.reason, error.detail, request_id, waiting.appended, waiting.origin, waiting.record)
    )
