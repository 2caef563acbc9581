"""What a partition has taken in since its last flush."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.matching import Charge
from stream_ensemble.kafka.transactional_output import Outgoing
from stream_ensemble.messages import Control
from stream_ensemble.stores.labels import Position


@dataclass(slots=True)
class Gathered:
    """What one flush is about: changes, what they teach, records for elsewhere, and the offsets after all
    of it.

    Attributes:
        labels: how many labels were read, whatever became of them.
        fused: next offset of fused p; ``fused_until`` the largest append time (ms) read from it.
        feedback: next offset of feedback p.
    """

    changes: Changes
    fused: int
    feedback: int
    fused_until: int
    charges: list[Charge] = field(default_factory=list)
    aside: list[Outgoing] = field(default_factory=list)
    labels: int = 0
    controls: list[Control] = field(default_factory=list)

    def next(self) -> Gathered:
        """Nothing yet, on top of this: what comes while this is being flushed."""
        return Gathered(Changes(self.changes), self.fused, self.feedback, self.fused_until)

    @property
    def says_something(self) -> bool:
        """Is there anything that others must see?"""
        return bool(
            self.labels
            or self.controls
            or self.aside
            or self.changes.verdicts
            or self.changes.late
            or self.changes.dead
        )

    def position(self, owner: str, applied: int) -> Position:
        """Where the local store is once it has this."""
        return Position(owner, self.fused, self.feedback, applied, self.fused_until)
