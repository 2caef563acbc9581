"""Many labels, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.columnar.rows import Wrong, taken
from stream_ensemble.core.join.records import NO_TIME
from stream_ensemble.messages import FORMAT_COLUMNS, Feedback, PartFeedback, PartLabel


@dataclass(slots=True)
class FeedbackBatch:
    """N labels.

    Attributes:
        ids: N request ids, in UTF-8.
        labels: N classes by index, in the JSON form by name too; or N labels of parts. Not checked against a
            task.
        at: N, milliseconds since the epoch, ``NO_TIME`` where a row does not say; None: no row says.
        revisions, weights: N; None: all 0, all 1.
        wrong: rows that cannot be used, and why; what else is said of them may be nonsense.
        originals: rows that only their own bytes can show, as records of one row.
        form: the form it was read from, ``FORMAT_COLUMNS`` or ``FORMAT_ARRAYS``.
    """

    ids: list[bytes]
    labels: list[int | str | PartLabel]
    at: NDArray[np.int64] | None = None
    revisions: NDArray[np.int64] | None = None
    weights: NDArray[np.float64] | None = None
    wrong: Wrong = field(default_factory=dict)
    originals: dict[int, bytes] = field(default_factory=dict)
    form: bytes = FORMAT_COLUMNS

    def __len__(self) -> int:
        return len(self.ids)

    def message(self, r: int) -> Feedback | PartFeedback:
        """Row ``r``, which is not ``wrong``, as the message it would be alone."""
        at = NO_TIME if self.at is None else int(self.at[r])
        said = self.labels[r]
        alike: dict[str, Any] = {
            "version": 1,
            "kind": "feedback",
            "request_id": self.ids[r].decode(),
            "at": None if at == NO_TIME else at,
            "revision": 0 if self.revisions is None else int(self.revisions[r]),
            "weight": 1.0 if self.weights is None else float(self.weights[r]),
        }
        if isinstance(said, PartLabel):
            return PartFeedback(part=said.part, label=said.value, **alike)
        return Feedback(label=said, **alike)

    def take(self, rows: Sequence[int]) -> FeedbackBatch:
        """Those ``rows``, in that order, as a batch of their own."""
        return FeedbackBatch(
            [self.ids[row] for row in rows],
            [self.labels[row] for row in rows],
            None if self.at is None else self.at[rows],
            None if self.revisions is None else self.revisions[rows],
            None if self.weights is None else self.weights[rows],
            taken(self.wrong, rows),
            taken(self.originals, rows),
            self.form,
        )
