"""Many predictions of one member, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.columnar.rows import Wrong, taken
from stream_ensemble.messages import FORMAT_COLUMNS


@dataclass(slots=True)
class PredictionBatch:
    """N predictions of ``member``. Texts are sparse, by row.

    Attributes:
        ids: N request ids, in UTF-8.
        outputs: ``N x C``, float32 or float64; any numbers where ``answers`` says that there is no output.
            C is 0 where no row has one and the writer left the column out. Unchecked: NaN comes through.
        at: N, milliseconds since the epoch, ``NO_TIME`` where a row does not say; None: no row says.
        answers: N of ``core.join.records.Answer``; None: every row is an output.
        errors: why the member could not answer. No text where it said none.
        segments, traces: of the requests.
        wrong: rows that cannot be used, and why; what else is said of them may be nonsense.
        originals: rows that only their own bytes can show, as records of one row: what is no number or of
            another length than its neighbours does not fit the columns.
        form: the form it was read from, ``FORMAT_COLUMNS`` or ``FORMAT_ARRAYS``.
    """

    member: str
    ids: list[bytes]
    outputs: NDArray[np.floating[Any]]
    at: NDArray[np.int64] | None = None
    answers: NDArray[np.uint8] | None = None
    errors: dict[int, str] = field(default_factory=dict)
    segments: dict[int, str] = field(default_factory=dict)
    traces: dict[int, bytes] = field(default_factory=dict)
    wrong: Wrong = field(default_factory=dict)
    originals: dict[int, bytes] = field(default_factory=dict)
    form: bytes = FORMAT_COLUMNS

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int]) -> PredictionBatch:
        """Those ``rows``, in that order, as a batch of their own."""
        return PredictionBatch(
            self.member,
            [self.ids[row] for row in rows],
            self.outputs[rows],
            None if self.at is None else self.at[rows],
            None if self.answers is None else self.answers[rows],
            taken(self.errors, rows),
            taken(self.segments, rows),
            taken(self.traces, rows),
            taken(self.wrong, rows),
            taken(self.originals, rows),
            self.form,
        )
