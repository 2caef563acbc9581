"""What the learner of one partition must remember of requests, kept beside it: a cache of the topics.

Everything here can be rebuilt from the fused and the applied topic. The store says up to where it agrees
with them and who wrote it, so that its owner can tell whether to trust it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.records import Known
from stream_ensemble.messages import Trial


class Position(Struct, frozen=True, array_like=True):
    """Up to where a store agrees with the topics, as the next offset of each, and who wrote it last.

    ``owner`` is the stamp of one ownership of the partition; nobody ever uses it again. ``fused_until`` is
    the largest append time (ms) of a fused record before ``fused``.
    """

    owner: str
    fused: int
    feedback: int
    applied: int
    fused_until: int = 0


def newest(late: Mapping[str, Trial]) -> int:
    """Append time (ms) of the newest of what shadows said of one request: it expires by that."""
    return max(trial.appended for trial in late.values())


class LabelStore(Known, Protocol):
    """A ``Known`` that takes changes in, flush by flush. Owned by one task; no method waits for a network."""

    def position(self) -> Position | None:
        """The position of the last ``write``; None if there was none."""
        ...

    def write(self, changes: Changes, position: Position) -> None:
        """Take in one flush (answers, verdicts, blocks, late trials) and the position, all or nothing."""
        ...

    def expire(self, appended_before: int, limit: int) -> int:
        """Forget answers and learned verdicts whose own append time (ms) is before, and credit blocks that no
        record appended since carried, and late trials; at most ``limit`` of each. Parked labels stay.

        Returns how many answers went.
        """
        ...

    def stored_bytes(self) -> int:
        """About how many bytes it takes."""
        ...

    def clear(self) -> None:
        """Forget everything, the position too."""
        ...

    def close(self) -> None:
        """Let go of files; the store cannot be used afterwards."""
        ...
