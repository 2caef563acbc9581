"""What the learner of one partition knows of a request, and what it is asked about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from stream_ensemble.messages import AnyLabel, CreditBlock, Source, Trial


class Answer(NamedTuple):
    """A fused record: the offset of its record in the fused topic, its append time (ms), and what is kept of
    it.
    """

    offset: int
    appended: int
    value: bytes


class Feedback(NamedTuple):
    """A label as it arrived, read and found in order by itself.

    ``appended`` and ``origin`` are those of the record the label was first written in, even if it was
    forwarded. ``original`` makes a record of this label alone, as bytes that mean nothing here, for the
    dead-letter topic: asked for only where the label has to wait or cannot be used.
    """

    request_id: str
    label: AnyLabel
    revision: int
    weight: float
    appended: int
    origin: Source
    original: Callable[[], bytes]


class Verdict(Struct, frozen=True, array_like=True, gc=False):
    """What became of the newest label of a request, or of a part of it: learned, or parked until its fused
    record comes.

    ``label`` is the class's name, or what the part is said to be. ``record`` (see ``Feedback.original``) is
    kept while parked: the label may still have to go to dead-letter.
    """

    learned: bool
    label: str
    revision: int
    weight: float
    appended: int
    origin: Source
    generation: int = 0
    record: bytes = b""

    @property
    def place(self) -> tuple[int, int, Source]:
        """Decides between two labels of the same: revision, then append time, then origin."""
        return self.revision, self.appended, self.origin


class DeadLabel(NamedTuple):
    """A label that cannot be used: it goes to dead-letter with the reason."""

    reason: str
    detail: str
    request_id: str
    appended: int
    origin: Source
    record: bytes


class Known(Protocol):
    """What is known of requests and credit: the local store, or the changes since its last flush over it.

    Verdicts go by label key (see ``keys``), the rest by request id.
    """

    def answer(self, request_id: str) -> Answer | None:
        """The fused record of a request."""
        ...

    def verdict(self, key: str) -> Verdict | None:
        """What became of the newest label of a key."""
        ...

    def look_up(self, keys: Sequence[str]) -> list[tuple[Verdict | None, Answer | None]]:
        """Both of many keys at once; no answer has the key of a part."""
        ...

    def block(self, digest: str) -> CreditBlock | None:
        """A credit block by digest."""
        ...

    def parked(self, appended_before: int, limit: int) -> list[tuple[str, Verdict]]:
        """Up to ``limit`` parked labels appended before (ms), oldest first."""
        ...

    def parked_count(self) -> int:
        """How many labels are parked."""
        ...

    def trials(self, request_id: str) -> dict[str, Trial]:
        """What shadows said of a request after its end, by member."""
        ...

    def has_trials(self) -> bool:
        """May there be any? So that labels do not pay for looking where there is no shadow."""
        ...
