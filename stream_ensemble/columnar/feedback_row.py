"""One row of columnar feedback, whatever its labels are about."""

from __future__ import annotations

from stream_ensemble.columnar import feedbacks, part_feedbacks
from stream_ensemble.columnar.feedback_batch import FeedbackBatch
from stream_ensemble.messages import FORMAT_ARRAYS, PartLabel


def row(batch: FeedbackBatch, r: int) -> bytes:
    """Row ``r`` alone, packed in the form the batch was read from."""
    if r in batch.originals:
        return batch.originals[r]
    alone = batch.take([r])
    arrays = batch.form == FORMAT_ARRAYS
    if isinstance(alone.labels[0], PartLabel):
        return part_feedbacks.pack_arrays(alone) if arrays else part_feedbacks.pack(alone)
    return feedbacks.pack_arrays(alone) if arrays else feedbacks.pack(alone)
