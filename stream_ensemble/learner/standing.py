"""What partition p has learned and the order it stands under; the next one is made whole, then committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from stream_ensemble.core.labels.charging import AlgorithmOver, Learned, charge
from stream_ensemble.core.labels.matching import Charge
from stream_ensemble.core.labels.parts import Parts
from stream_ensemble.core.labels.records import Known
from stream_ensemble.stores.contributions import Change, Key, Order


@dataclass(frozen=True, slots=True)
class Standing:
    """Contributions of one partition.

    Attributes:
        order: of the newest of them; (0, 0, 0) when nothing was ever learned.
        epoch: this owner's, larger than that of every owner before.
    """

    learned: Learned
    order: Order
    epoch: int

    def after(
        self,
        charges: Sequence[Charge],
        known: Known,
        algorithm_over: AlgorithmOver,
        overtaken_by: Order | None,
    ) -> Step:
        """The standing after these charges.

        Args:
            overtaken_by: a larger order that Redis holds. If we are the owner, the topics were made anew
            while Redis
                remembers: everything is said again above that. If we are not, the commit of it fails.
        """
        outcome = charge(self.learned, charges, known, algorithm_over)
        learned, epoch, changed = outcome.learned, self.epoch, outcome.changed
        if overtaken_by is not None and overtaken_by > self.order:
            epoch = max(epoch, overtaken_by.epoch + 1)
            learned = Learned(max(learned.generation, overtaken_by.generation), learned.parts)
            changed = frozenset(learned.parts)
        elif not changed:
            return Step(self, Parts(), outcome.counts)
        order = Order(learned.generation, epoch, self.order.sequence + 1)
        return Step(Standing(learned, order, epoch), learned.parts.only(changed), outcome.counts)


@dataclass(frozen=True, slots=True)
class Step:
    """A standing, the contributions that differ from the one before, by segment, and what had no effect."""

    standing: Standing
    changed: Parts
    counts: Counter[str]


def changes_of(task: str, order: Order, parts: Parts) -> list[Change]:
    """Contributions as they are published."""
    return [Change(Key(task, segment), order, parts.packed(segment)) for segment in parts]
