"""Which part of its request a label is about."""

from __future__ import annotations

from collections.abc import Mapping

from stream_ensemble.errors import RecordError
from stream_ensemble.messages import AnyLabel, PartLabel


def part_label(label: AnyLabel) -> PartLabel:
    """The label, which must say what it is about.

    Raises:
        RecordError: it does not.
    """
    if isinstance(label, PartLabel):
        return label
    raise RecordError(
        "missing-field", "part: missing; labels of this task are each about a part of a request"
    )


def place_of(part: str | int, places: Mapping[str, int]) -> int:
    """The number of a part, which is given by its name or its index from 0.

    Raises:
        RecordError: there is none.
    """
    place = part if isinstance(part, int) and part < len(places) else places.get(part)  # type: ignore[arg-type]
    if place is None:
        known = ", ".join(list(places)[:10]) + (", …" if len(places) > 10 else "")
        raise RecordError(
            "unknown-part", f"part is {part!r}, expected 0..{len(places) - 1} or one of {known}"
        )
    return place
