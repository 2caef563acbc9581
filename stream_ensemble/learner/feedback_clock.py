"""Up to which append time the labels have been read: what decides how long a fused record must be kept."""

from __future__ import annotations


class FeedbackClock:
    """Log time of one feedback partition, also while nobody labels anything.

    A label read shows it. So does an empty partition: what was appended to the fused topic before we asked
    for labels and found no more is older than every label still to come.

    Attributes:
        until: what is known of labels by now, as an append time (ms).
        labels_until: the same by labels alone.
    """

    def __init__(self) -> None:
        self.until = 0
        self.labels_until = 0
        self._candidate: tuple[int, float] | None = None

    def read_label(self, appended: int) -> None:
        """A label appended then (ms) was read."""
        self.labels_until = max(self.labels_until, appended)
        self.until = max(self.until, appended)

    def read_fused(self, appended: int, now: float) -> None:
        """A fused record appended then (ms) was read at monotonic ``now`` (s)."""
        if self._candidate is None and appended > self.until:
            self._candidate = appended, now

    def at_end(self, asked_at: float) -> None:
        """Labels were asked for at monotonic ``asked_at`` (s), and there were no more than we have read."""
        if self._candidate is not None and asked_at >= self._candidate[1]:
            self.until = max(self.until, self._candidate[0])
            self._candidate = None
