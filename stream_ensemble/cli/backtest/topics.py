"""Recorded topics: fused and feedback records, one JSON message in each line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from stream_ensemble.cli.backtest.recording import Raw
from stream_ensemble.errors import SettingsError
from stream_ensemble.messages import UNREADABLE, Feedback, Fused, PartFeedback


class _Kind(msgspec.Struct):
    kind: Literal["fused", "feedback", "control", "trial"]
    # Not ``| None``: msgspec then reads only null here.
    part: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_kind = msgspec.json.Decoder(_Kind).decode
_fused = msgspec.json.Decoder(Fused).decode
_feedback = msgspec.json.Decoder(Feedback).decode
_part_feedback = msgspec.json.Decoder(PartFeedback).decode


#: Kinds of records that stand in the feedback topic beside labels.
_NEITHER = ("control", "trial")


@dataclass(slots=True)
class _Topics:
    """What stands in the two topics, by request id: the first answer, the label that counts; or the labels of
    its parts, by their places in an output.

    Attributes:
        parts: names of the parts, in the order of an output's numbers; empty: not known.
    """

    parts: Sequence[str] = ()
    answers: dict[str, Fused] = field(default_factory=dict)
    labels: dict[str, Feedback] = field(default_factory=dict)
    of_parts: dict[str, dict[int, PartFeedback]] = field(default_factory=dict)

    def take(self, message: Fused | Feedback | PartFeedback) -> None:
        if isinstance(message, Fused):
            # Whoever is in shadow is no member yet.
            for name in message.shadow or ():
                message.components.pop(name, None)
            self.answers.setdefault(message.request_id, message)
            return
        if isinstance(message, PartFeedback):
            labels = self.of_parts.setdefault(message.request_id, {})
            place = self._place(message.part)
            if place not in labels or message.revision >= labels[place].revision:
                labels[place] = message
            return
        before = self.labels.get(message.request_id)
        if before is None or message.revision >= before.revision:
            self.labels[message.request_id] = message

    def _place(self, part: int | str) -> int:
        if isinstance(part, int):
            return part
        if part not in self.parts:
            known = f"--parts names {', '.join(self.parts)}" if self.parts else "say --parts A,B,..."
            raise SettingsError(
                f"a label is about the part {part!r}, whose place in an output is not known: {known}"
            )
        return self.parts.index(part)


def holds_messages(path: Path) -> bool:
    """Are the lines messages, and not rows of a table? The first one says."""
    with path.open("rb") as file:
        first = next((line for line in file if line.strip()), b"{}")
    try:
        return "kind" in msgspec.json.decode(first, type=dict[str, msgspec.Raw])
    except UNREADABLE:
        return False


def read_messages(path: Path, parts: Sequence[str] = ()) -> Raw:
    """The requests that were answered and labelled, in the order of their fused records; a row for each
    labelled part where labels are about parts, with its number in the column ``part``.

    Args:
        parts: names of the parts, in the order of an output's numbers, where labels name them.

    Raises:
        SettingsError: a line is neither kind of record, or a label is of no known class or part.
    """
    topics = _Topics(parts)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    said = _kind(line)
                    if said.kind not in _NEITHER:
                        decode = _feedback if said.part is msgspec.UNSET else _part_feedback
                        topics.take(_fused(line) if said.kind == "fused" else decode(line))
                except UNREADABLE as error:
                    raise SettingsError(f"line {number} is no fused or feedback record: {error}") from None
    labels = topics.of_parts or topics.labels
    if topics.of_parts and topics.labels:
        raise SettingsError("some labels are about parts of a request, others about the whole")
    answered = [answer for answer in topics.answers.values() if answer.request_id in labels]
    if not answered:
        raise SettingsError("no request has both a fused record and a label")
    return _parts_raw(answered, topics) if topics.of_parts else _raw(answered, topics)


def _parts_raw(answered: Sequence[Fused], topics: _Topics) -> Raw:
    members = tuple(sorted({member for answer in answered for member in answer.components}))
    rows, y, about, segments = [], [], [], []
    for answer in answered:
        for place, label in sorted(topics.of_parts[answer.request_id].items()):
            row = [float("nan")] * len(members)
            for member, output in answer.components.items():
                if place >= len(output):
                    raise SettingsError(
                        f"request {answer.request_id}: a label is about part {place}, {member} gave "
                        f"{len(output)} numbers"
                    )
                row[members.index(member)] = output[place]
            rows.append(row)
            y.append(float(label.label))
            about.append(place)
            segments.append(answer.segment or "")
    return Raw(
        np.array(rows),
        np.array(y),
        members,
        columns={"segment": np.array(segments), "part": np.array(about)},
    )


def _raw(answered: Sequence[Fused], topics: _Topics) -> Raw:
    members = tuple(sorted({member for answer in answered for member in answer.components}))
    outputs = [output for answer in answered for output in answer.components.values()]
    if not outputs:
        raise SettingsError("no fused record with a label holds an output")
    classes = len(outputs[0])
    P = np.full((len(answered), len(members), classes), np.nan)
    index = _class_numbers(topics.answers.values())
    y = np.empty(len(answered), np.int64)
    for row, answer in enumerate(answered):
        for member, output in answer.components.items():
            if len(output) != classes:
                raise SettingsError(
                    f"request {answer.request_id}: {member} gave {len(output)} numbers, others {classes}"
                )
            P[row, members.index(member)] = output
        label = topics.labels[answer.request_id].label
        if isinstance(label, str) and label not in index:
            raise SettingsError(
                f"request {answer.request_id}: the label {label!r} is a class that no fused record names; "
                f"known are {', '.join(index)}"
            )
        y[row] = index[label] if isinstance(label, str) else label
    segments = np.array([answer.segment or "" for answer in answered])
    return Raw(P, y, members, columns={"segment": segments})


def _class_numbers(answers: Iterable[Fused]) -> dict[str, int]:
    """Class numbers by name, as far as fused records tell: their label is the class of the largest output."""
    return {
        answer.label: int(np.argmax(answer.output))
        for answer in answers
        if answer.label is not None and answer.output
    }
