"""Labels meet fused records: what each pair teaches, waits for, corrects, or why it cannot be used.

The outcome does not depend on how fused records and labels interleave: a request, or each part of it, ends
with the label of the largest place (revision, then append time, then origin), charged once, whatever came
first or twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from stream_ensemble.core.labels.answers import (
    Credited,
    Head,
    credited,
    head_and_numbers,
    head_of,
    keep_answer,
    keep_answers,
)
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.keys import label_key, taken_apart
from stream_ensemble.core.labels.outputs import Outputs, stacked
from stream_ensemble.core.labels.records import Answer, DeadLabel, Feedback, Verdict
from stream_ensemble.core.labels.rules import Rules
from stream_ensemble.core.tasks.domain import Domain, Meaning
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import Credit, CreditBlock, Trial

#: An append time (ms) after all others.
_ANY_TIME = 2**62
_UNKNOWN: tuple[int, Head | None] = (0, None)
NO_TRIALS: Mapping[str, list[float]] = {}


class Charge(NamedTuple):
    """One label to be charged against one answer: ``sign`` 1 adds it, -1 takes an earlier one back.

    ``first`` is set where the request, or this part of it, is labelled for the first time: only then does n
    grow.

    Attributes:
        components: outputs by member; of a label for a part, what they say of that.
        label: the class by its number, or the value.
        trials: what members in shadow said, by name, in the same form.
        warm: who had a warm share of the answer.
        late: the label was charged before: only ``trials`` are to be scored.
    """

    credit: Credit
    segment: str | None
    components: Mapping[str, list[float]]
    label: int | float
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
    answer = keep_answer(changes, rules.domain.bounds, request_id, answer)
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
    with changes.at_hand(_looked_up(rules.domain, labels)):
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


def _looked_up(domain: Domain, labels: Sequence[Feedback]) -> list[str]:
    """Keys of the labels and ids of their requests, each once."""
    ids = [label.request_id for label in labels]
    if not domain.parts:
        return ids
    keys = []
    for label in labels:
        try:
            keys.append(label_key(label.request_id, _part(domain, domain.meaning(label.label))))
        except RecordError:
            continue  # when its turn comes it will be said
    return list(dict.fromkeys(ids + keys))


def _part(domain: Domain, meaning: Meaning) -> str | None:
    """Name of the part that a label is about."""
    return domain.parts[meaning.part] if domain.parts else None


def take_trials(changes: Changes, rules: Rules, trials: Iterable[Trial]) -> list[Charge]:
    """Take in what shadows said of requests after their end: each member's first counts, and only where it
    is not in the fused record. It waits for the label, or is scored by one that was learned already.
    """
    charges: list[Charge] = []
    for trial in trials:
        if trial.member in changes.trials(trial.request_id) or len(trial.output) != len(rules.domain.names):
            changes.counts["trial-refused"] += 1
            continue
        changes.keep_trial(trial)
        changes.counts["trial-late"] += 1
        learned = list(_learned(changes, rules.domain, trial.request_id))
        answer = changes.answer(trial.request_id)
        if not learned or answer is None:
            continue
        try:
            fused = credited(answer)
            _check(rules, fused, _blocks(changes, fused))
        except RecordError:
            continue  # its label has said why
        of_late = _late(changes, rules, trial.request_id, fused, answer)
        if fused.credit is None or trial.member not in of_late:
            continue
        everywhere = Credit(everywhere=fused.credit.everywhere)
        for verdict, meaning in learned:
            charge = _charge(
                rules.domain, fused, fused.credit, (verdict, meaning), {trial.member: trial.output}
            )
            only = {trial.member: charge.trials[trial.member]}
            charges.append(
                charge._replace(credit=everywhere, segment=None, first=False, trials=only, warm=(), late=True)
            )
    return charges


def _learned(changes: Changes, domain: Domain, request_id: str) -> Iterator[tuple[Verdict, Meaning]]:
    """The labels of a request, or of its parts, that were learned."""
    for key in _keys(domain, request_id):
        verdict = changes.verdict(key)
        if verdict is not None and verdict.learned:
            meaning = domain.kept(verdict.label, taken_apart(key)[1])
            if meaning is not None:
                yield verdict, meaning


def _keys(domain: Domain, request_id: str) -> Iterable[str]:
    """All label keys there may be of a request."""
    if not domain.parts:
        return (request_id,)
    return [label_key(request_id, part) for part in domain.parts]


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
    for key, verdict in orphans:
        changes.decide_after(verdict, key, None)
        _refuse_waiting(changes, key, verdict, _orphan(rules))
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
    for key, verdict in orphans:
        changes.decide_after(verdict, key, None)
        _refuse_waiting(changes, key, verdict, error)
    return len(orphans)


def _learn_waiting(changes: Changes, rules: Rules, request_id: str, answer: Answer) -> Sequence[Charge]:
    """Learn the labels that waited for this answer, if there are any."""
    charges: list[Charge] = []
    for key in _keys(rules.domain, request_id):
        waiting = changes.verdict(key)
        if waiting is None or waiting.learned:
            continue
        changes.decide_after(waiting, key, None)
        try:
            charges += _learn(changes, rules, key, None, waiting, answer)
        except RecordError as error:
            _refuse_waiting(changes, key, waiting, error)
    return charges


def _first_of_alike(changes: Changes, rules: Rules, label: Feedback) -> Charge | None:
    """Learn a request's first label where one was charged in this flush against an answer that differs in its
    numbers only: what ``_take_label`` would do, without asking for everything again. None: it has to.
    """
    request_id, said, revision, weight, appended, origin, _ = label
    domain = rules.domain
    if domain.parts:
        return None
    before, answer = changes.known(request_id)
    if answer is None or before is not None or appended - answer.appended > rules.label_horizon_ms:
        return None
    head, numbers = head_and_numbers(answer.value)
    generation, alike = changes.sound.get(head, _UNKNOWN)
    if alike is None or alike.credit is None or alike.shadow or not numbers:
        return None
    try:
        name, number, _ = domain.meaning(said)
    except RecordError:
        return None
    changes.decide_after(
        None, request_id, Verdict(True, name, revision, weight, appended, origin, generation)
    )
    changes.counts["learned"] += 1
    outputs = Outputs(alike.members, numbers)
    return _new_charge(
        (alike.credit, alike.segment, outputs, number, weight, 1, True, NO_TRIALS, alike.warm or (), False)
    )


def _take_label(changes: Changes, rules: Rules, label: Feedback, fused_until: int) -> Sequence[Charge]:
    """Learn a label or let it wait.

    Raises:
        RecordError: it cannot be used, and why.
    """
    meaning = rules.domain.meaning(label.label)
    key = label_key(label.request_id, _part(rules.domain, meaning))
    new = Verdict(False, meaning.name, label.revision, label.weight, label.appended, label.origin)
    before = changes.verdict(key)
    if before is not None and new.place <= before.place:
        changes.counts["duplicate" if new.label == before.label else "superseded"] += 1
        return ()
    answer = changes.answer(label.request_id)
    if answer is not None:
        return _learn(changes, rules, key, before, new, answer)
    if before is not None and before.learned:
        # Its fused record is gone, and those go only after the label horizon.
        raise _too_late(rules)
    if fused_until - new.appended > rules.orphan_horizon_ms:
        raise _orphan(rules)
    parked = msgspec.structs.replace(new, record=label.original())
    changes.decide_after(before, key, parked)
    changes.counts["parked" if before is None else "superseded"] += 1
    return ()


def _learn(
    changes: Changes, rules: Rules, key: str, before: Verdict | None, new: Verdict, answer: Answer
) -> Sequence[Charge]:
    """Charge a label, which has won over the one ``before``, against its answer.

    Raises:
        RecordError: it cannot be charged, and why.
    """
    if new.appended - answer.appended > rules.label_horizon_ms:
        raise _too_late(rules)
    request_id, part = taken_apart(key)
    meaning = _kept(rules.domain, new, part)
    corrected = before if before is not None and before.learned else None
    was = None if corrected is None else _kept(rules.domain, corrected, part)
    fused = credited(answer)
    generation, alike = changes.sound.get(fused.head, _UNKNOWN)
    if alike is None:
        blocks = _blocks(changes, fused)
        _check(rules, fused, blocks)
        generation = blocks[0].generation if blocks else 0
        if fused.head:
            changes.sound[fused.head] = generation, head_of(fused.head)
    learned = Verdict(True, new.label, new.revision, new.weight, new.appended, new.origin, generation)
    changes.decide_after(before, key, learned)
    if fused.credit is None or not _has_answer(fused):
        changes.counts["taught-nothing"] += 1
        return ()
    if corrected is not None and (corrected.label, corrected.weight) == (new.label, new.weight):
        changes.counts["duplicate"] += 1
        return ()
    changes.counts["learned" if corrected is None else "corrected"] += 1
    late = _late(changes, rules, request_id, fused, answer)
    added = _charge(rules.domain, fused, fused.credit, (new, meaning), late)
    if corrected is None or was is None:
        return (added,)
    back = added._replace(label=was.number, weight=corrected.weight, sign=-1, first=False)
    return back, added._replace(first=False)


def _kept(domain: Domain, verdict: Verdict, part: str | None) -> Meaning:
    """What a label says that was kept.

    Raises:
        RecordError: nothing in today's task.
    """
    meaning = domain.kept(verdict.label, part)
    if meaning is None:
        about = "" if part is None else f" of part {part!r}"
        raise RecordError("unknown-class", f"the label kept, {verdict.label!r}{about}, is none of the task")
    return meaning


def _has_answer(fused: Credited) -> bool:
    return bool(fused.components.keys() - set(fused.shadow) if fused.shadow else fused.components)


def _charge(
    domain: Domain,
    fused: Credited,
    credit: Credit,
    said: tuple[Verdict, Meaning],
    late: Mapping[str, list[float]],
) -> Charge:
    """A request's, or a part's, first label against its answer."""
    components, trials = fused.components, late
    if fused.shadow:
        components = {name: x for name, x in components.items() if name not in fused.shadow}
        trials = {name: fused.components[name] for name in fused.shadow if name in fused.components} | dict(
            late
        )
    verdict, meaning = said
    if domain.parts:
        components, trials = (_asked(domain, outputs, meaning.part) for outputs in (components, trials))
    return Charge(
        credit,
        fused.segment,
        components,
        meaning.number,
        verdict.weight,
        1,
        True,
        trials,
        fused.warm or (),
    )


def _asked(domain: Domain, outputs: Mapping[str, list[float]], part: int) -> Mapping[str, list[float]]:
    """What outputs say of one part."""
    rows = stacked([outputs])[0].tolist() if isinstance(outputs, Outputs) else outputs.values()
    return {member: domain.asked(output, part) for member, output in zip(outputs, rows, strict=True)}


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


def _check(rules: Rules, fused: Credited, blocks: list[CreditBlock]) -> None:
    """What a fused record of our own always fulfils, so that one foreign record cannot stop the learner."""
    values, (lowest, highest) = len(rules.domain.names), rules.domain.bounds
    for output in fused.components.values():
        if len(output) != values:
            raise RecordError("fused-unreadable", f"an output does not have {values} numbers")
        if min(output) < lowest or max(output) > highest:
            raise RecordError(
                "fused-unreadable", f"an output has numbers that are not within {lowest:g} and {highest:g}"
            )
    for block in blocks:
        strangers = fused.components.keys() - set(block.members) - set(fused.shadow)
        if strangers:
            raise RecordError("credit-not-found", f"the credit block does not know {sorted(strangers)}")
    if any(block.members != blocks[0].members for block in blocks):
        raise RecordError("credit-not-found", "the segment's credit block is about other members")
    if fused.credit is not None and fused.credit.segment is not None and fused.segment is None:
        raise RecordError("credit-not-found", "credit of a segment, but the fused record names none")


def _too_late(rules: Rules) -> RecordError:
    detail = f"appended more than {rules.label_horizon_ms / 1000:g} s after the fused record"
    return RecordError("label-horizon", detail)


def _orphan(rules: Rules) -> RecordError:
    detail = f"no fused record of this request within {rules.orphan_horizon_ms / 1000:g} s"
    return RecordError("orphan", detail)


def _refuse_waiting(changes: Changes, key: str, waiting: Verdict, error: RecordError) -> None:
    request_id, _ = taken_apart(key)
    changes.refuse(
        DeadLabel(error.reason, error.detail, request_id, waiting.appended, waiting.origin, waiting.record)
    )
