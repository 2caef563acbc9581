"""What control records come to: whose weights are pinned, who is admitted. Applied in any order, or twice,
they come to the same, so that partitions which read two commands in another order agree in the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce

from msgspec.structs import replace

from stream_ensemble.core.learning import credit_block
from stream_ensemble.errors import RecordError, StateError
from stream_ensemble.messages import Admission, Control, ControlState, Pin

NOTHING = ControlState(number=0, id="")
#: Whose pin comes first.
AUTHORITIES = ("operator", "guardrail")
#: What is about a member, not about the weights.
MEMBERS = ("admit", "retire")


def checked(control: Control) -> Control:
    """``control`` if it says all that its action needs.

    Raises:
        RecordError: what is missing or cannot be.
    """
    if control.action == "reset" and control.generation is None:
        raise RecordError("missing-field", "generation: needed with reset")
    if control.action in MEMBERS and control.member is None:
        raise RecordError("missing-field", f"member: needed with {control.action}")
    if control.action != "pin":
        return control
    if control.pinned is None:
        raise RecordError("missing-field", "pinned: needed with pin")
    if not any(control.pinned.weights.values()):
        raise RecordError("wrong-field", "pinned.weights: expected at least one above 0")
    if not math.isfinite(sum(control.pinned.weights.values())):
        raise RecordError("wrong-field", "pinned.weights: they do not add up to a finite number")
    block = control.pinned.credit
    if block is not None:
        try:
            credit_block.decode(credit_block.digest_of(block), block)
        except StateError as error:
            raise RecordError("wrong-field", f"pinned.credit: {error}") from None
    return control


def applied(state: ControlState, control: Control) -> ControlState:
    """The state after a control record. Of a reset only the number stands in it."""
    pins: tuple[Pin, ...] = ()
    members: tuple[Admission, ...] = ()
    if control.member is not None and control.action in MEMBERS:
        members = (_admission(control, control.member),)
    elif control.action != "reset":
        pinned = control.pinned if control.action == "pin" else None
        pins = (
            Pin(
                number=control.number,
                id=control.id,
                by=control.by,
                segment=control.segment,
                at=control.at,
                pinned=pinned,
            ),
        )
    return _join(state, ControlState(number=control.number, id=control.id, pins=pins, members=members))


def joined(states: Iterable[ControlState]) -> ControlState:
    """What the states of several partitions come to: what one of them has seen counts."""
    return reduce(_join, states, NOTHING)


def pin_of(state: ControlState, segment: str | None) -> Pin | None:
    """The pin that requests of ``segment`` are fused with: an operator's before the guardrail's, and the
    segment's own before that of all.
    """
    held = {(pin.by, pin.segment): pin for pin in state.pins if pin.pinned is not None}
    places = ((by, of) for by in AUTHORITIES for of in dict.fromkeys((segment, None)))
    return next((held[place] for place in places if place in held), None)


def _join(one: ControlState, other: ControlState) -> ControlState:
    newest: dict[tuple[str, str], Pin] = {}
    for pin in (*one.pins, *other.pins):
        # A segment's name is never empty.
        place = (pin.by, pin.segment or "")
        if place not in newest or _stamp(pin) > _stamp(newest[place]):
            newest[place] = pin
    said: dict[str, Admission] = {}
    for admission in (*one.members, *other.members):
        name = admission.member
        if name not in said or _stamp(admission) > _stamp(said[name]):
            said[name] = admission
    last = max((one, other), key=_stamp)
    return replace(
        last,
        pins=tuple(pin for _, pin in sorted(newest.items())),
        members=tuple(admission for _, admission in sorted(said.items())),
    )


def _admission(control: Control, member: str) -> Admission:
    return Admission(
        member=member,
        number=control.number,
        id=control.id,
        by=control.by,
        at=control.at,
        admitted=control.action == "admit",
        generation=control.generation or 0,
        share=control.share,
        labels=control.labels,
    )


def _stamp(record: Pin | Admission | ControlState) -> tuple[int, str]:
    return record.number, record.id
