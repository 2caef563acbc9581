"""What decides over a label, fixed for the life of a learner."""

from __future__ import annotations

from dataclasses import dataclass

from stream_ensemble.core.tasks.domain import Domain


@dataclass(frozen=True, slots=True)
class Rules:
    """What labels may say and the two horizons, in milliseconds of append time.

    Args:
        domain: of the task.
        label_horizon_ms: a label counts if appended at most this long after its fused record.
        orphan_horizon_ms: a label without a fused record is given up when the fused topic has been read to a
            record appended more than this after the label.
    """

    domain: Domain
    label_horizon_ms: int
    orphan_horizon_ms: int
