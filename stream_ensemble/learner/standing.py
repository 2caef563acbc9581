"""What partition p has learned and the order it stands under; the next one is made whole, then committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from stream_ensemble.core.labels.by_segment import BySegment
from stream_ensemble.core.labels.charging import AlgorithmOver, Learned, charge
from stream_ensemble.core.labels.matching import Charge
from stream_ensemble.core.labels.records import Known
from stream_ensemble.core.learning import control
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.messages import Control, ControlState
from stream_ensemble.stores.contributions import Change, Key, Order
from stream_ensemble.stores.control_state import CONTROLS, encode_state


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
    controls: ControlState = control.NOTHING

    def after(
        self,
        charges: Sequence[Charge],
        known: Known,
        algorithm_over: AlgorithmOver,
        overtaken_by: Order | None,
        orders: Sequence[Control] = (),
    ) -> Step:
        """The standing after these charges and control records, whose order makes no difference: what was
        charged to credit of an older generation than the largest one counts nothing.

        Args:
            overtaken_by: a larger order that Redis holds. If we are the owner, the topics were made anew
            while Redis
                remembers: everything is said again above that. If we are not, the commit of it fails.
        """
        outcome = charge(self.learned, charges, known, algorithm_over)
        learned, changed = _reset(outcome.learned, outcome.changed, orders, algorithm_over)
        controls = reduce(control.applied, orders, self.controls)
        said, epoch = bool(orders), self.epoch
        if overtaken_by is not None and overtaken_by > self.order:
            epoch = max(epoch, overtaken_by.epoch + 1)
            learned = Learned(max(learned.generation, overtaken_by.generation), learned.by_segment)
            changed, said = frozenset(learned.by_segment), controls != control.NOTHING
        elif not changed and not said:
            return Step(self, BySegment(), outcome.counts)
        order = Order(learned.generation, epoch, self.order.sequence + 1)
        standing = Standing(learned, order, epoch, controls)
        return Step(standing, learned.by_segment.only(changed), outcome.counts, said)


def _reset(
    learned: Learned,
    changed: frozenset[str | None],
    orders: Sequence[Control],
    algorithm_over: AlgorithmOver,
) -> tuple[Learned, frozenset[str | None]]:
    """Everything forgotten where a control record begins a new generation.

    The whole is said to be empty even if nothing was learned here, so that others see the generation.
    """
    generation = max([0, *(order.generation or 0 for order in orders if order.action == "reset")])
    if generation <= learned.generation:
        return learned, changed
    nothing = algorithm_over(()).members
    parts = BySegment({segment: Contribution(nothing) for segment in {None, *learned.by_segment}})
    return Learned(generation, parts), frozenset(parts)


@dataclass(frozen=True, slots=True)
class Step:
    """A standing, the contributions that differ from the one before, by segment, what had no effect, and
    whether control records were applied (or their state has to be said again).
    """

    standing: Standing
    changed: BySegment
    counts: Counter[str]
    controlled: bool = False


def changes_of(task: str, step: Step, at: int) -> list[Change]:
    """What a step has changed, as it is published; it was taken at ``at`` (ms since 1970)."""
    order = step.standing.order
    changes = [
        Change(Key(task, segment), order, step.changed.packed(segment), at) for segment in step.changed
    ]
    if step.controlled:
        changes.append(Change(CONTROLS, order, encode_state(step.standing.controls)))
    return changes
