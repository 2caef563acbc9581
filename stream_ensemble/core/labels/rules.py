"""What decides over a label, fixed for the life of a learner."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_ensemble.errors import RecordError
from stream_ensemble.messages import Label


@dataclass(frozen=True, slots=True)
class Rules:
    """Classes of the task and the two horizons, in milliseconds of append time.

    Args:
        classes: C class names, in the order of an output's probabilities.
        label_horizon_ms: a label counts if appended at most this long after its fused record.
        orphan_horizon_ms: a label without a fused record is given up when the fused topic has been read to a
            record appended more than this after the label.
    """

    classes: tuple[str, ...]
    label_horizon_ms: int
    orphan_horizon_ms: int
    index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {name: at for at, name in enumerate(self.classes)})

    def place(self, label: Label) -> int | None:
        """Of the class a label names; None: there is no such class."""
        if isinstance(label, int):
            return label if 0 <= label < len(self.classes) else None
        return self.index.get(label)

    def class_name(self, label: Label) -> str:
        """The class a label names.

        Raises:
            RecordError: there is no such class.
        """
        if isinstance(label, int):
            if not 0 <= label < len(self.classes):
                detail = f"label is {label}, the task has classes 0..{len(self.classes) - 1}"
                raise RecordError("label-out-of-range", detail)
            return self.classes[label]
        if label not in self.index:
            raise RecordError("unknown-class", f"label is {label!r}, which is not a class of the task")
        return label
