"""What the auditor counted, and what does not fit: the first offenders of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

#: How many offenders of a kind are named.
NAMED = 10


class Offence(StrEnum):
    """What must not be, in words for a person."""

    MISSING = "requests without a terminal record"
    TWICE = "fused records beside the first one of their request"
    OF_NOTHING = "fused records of requests that nobody predicted or asked"
    LATE_UNENDED = "requests whose predictions are all late, though none ended"
    INCOMPLETE = "complete records that lack an expected member"
    UNJUSTIFIED = "members left out though their prediction was there in time"
    WRONG_SOURCE = "component sources that point at no prediction of that request and member"
    OTHER_OUTPUT = "component outputs that are not those of their source"
    UNACCOUNTED = "predictions that were neither used nor kept aside"
    USED_AND_LATE = "predictions that were used and kept aside as late"
    UNREADABLE_LOST = "unusable records that are not in the dead-letter topic"
    NOT_FORWARDED = "records on the wrong partition that were not forwarded"
    LEARNED_TWICE = "labels that were learned twice"
    LABEL_LOST = "labels that were neither applied nor kept aside"
    COUNT = "partitions whose count of labels learned is not that of the labels applied"


@dataclass(frozen=True, slots=True)
class Offender:
    """Where one stands: ``place`` as in ``rows.place``, in ``topic`` number of the audit's topics."""

    offence: Offence
    partition: int
    place: int
    detail: str = ""


@dataclass(slots=True)
class Tally:
    """Counts by name, and offenders. Tallies of buckets and partitions add up."""

    counts: Counter[str] = field(default_factory=Counter)
    offences: Counter[Offence] = field(default_factory=Counter)
    offenders: list[Offender] = field(default_factory=list)

    @property
    def balances(self) -> bool:
        """Nothing that must not be."""
        return not self.offences

    def accuse(self, offence: Offence, partition: int, places: Iterable[int], detail: str = "") -> None:
        """Each of the places is an offender."""
        known = sum(offender.offence == offence for offender in self.offenders)
        for place in places:
            self.offences[offence] += 1
            if known < NAMED:
                self.offenders.append(Offender(offence, partition, int(place), detail))
                known += 1

    def add(self, other: Tally) -> None:
        """Take another's counts and offenders in."""
        self.counts += other.counts
        self.offences += other.offences
        for offender in other.offenders:
            if sum(known.offence == offender.offence for known in self.offenders) < NAMED:
                self.offenders.append(offender)
