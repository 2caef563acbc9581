"""From charges to contributions: what labels teach is added to what was learned before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stream_ensemble.core.labels.by_segment import BySegment
from stream_ensemble.core.labels.matching import Charge
from stream_ensemble.core.labels.records import Known
from stream_ensemble.core.labels.teaching import AlgorithmOver, Credits, Taught, teach_segments, teach_whole
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.contribution import Contribution, Vector, realigned
from stream_ensemble.errors import StateError
from stream_ensemble.messages import CreditBlock

__all__ = ["AlgorithmOver", "Learned", "Outcome", "charge"]


@dataclass(frozen=True, slots=True)
class Learned:
    """One partition's contributions by segment (None: the whole), of one generation. Not to be changed."""

    generation: int
    by_segment: BySegment


@dataclass(frozen=True, slots=True)
class Outcome:
    """Contributions after some charges: ``changed`` segments differ, ``counts`` is what had no effect."""

    learned: Learned
    changed: frozenset[str | None]
    counts: Counter[str]


def charge(
    learned: Learned, charges: Sequence[Charge], known: Known, algorithm_over: AlgorithmOver
) -> Outcome:
    """Add what these charges teach, each against the credit its answer was made with.

    Credit of an older generation than ``learned`` changes nothing; credit of a newer one says that a reset
    has happened elsewhere and is taken as one here. Equal to charging one by one to 1e-12 of the sum of
    |increments|.

    Raises:
        StateError: a credit block that ``known`` had when the charge was made is gone or damaged.
    """
    counts: Counter[str] = Counter()
    digests = {digest for one in charges for digest in (one.credit.everywhere, one.credit.segment) if digest}
    blocks = {digest: _block(digest, known) for digest in digests}
    generation = max([learned.generation, *(block.generation for block, _ in blocks.values())])
    before = learned.by_segment if generation == learned.generation else BySegment()
    after: dict[str | None, Contribution] = {}
    if generation != learned.generation:
        # After a reset a segment without new labels still has to say that it is empty now.
        after = {segment: Contribution(algorithm_over(()).members) for segment in learned.by_segment}
    held = Credits(blocks, generation, algorithm_over)
    for taught in (*teach_whole(charges, held, counts), *teach_segments(charges, held, counts)):
        segment = taught.segment
        after[segment] = _added(after.get(segment) or before.get(segment), taught, algorithm_over)
    return Outcome(Learned(generation, before.with_(after)), frozenset(after), counts)


def _block(digest: str, known: Known) -> tuple[CreditBlock, Vector]:
    block = known.block(digest)
    if block is None:
        raise StateError(f"credit block {digest} is gone between matching a label and charging it")
    return block, credit_block.decode(digest, block)


def _added(part: Contribution | None, taught: Taught, algorithm_over: AlgorithmOver) -> Contribution:
    """The contribution after some labels; the one before is not touched."""
    algorithm, members = taught.algorithm, taught.algorithm.members
    if part is None or part.members[: len(members)] == members:
        # Arrays are replaced, never edited: to share them is enough.
        after = (
            replace(part, sums=dict(part.sums), maxima=dict(part.maxima)) if part else Contribution(members)
        )
        algorithm.add(after, taught.increments, taught.scale, taught.clock)
    else:
        # The settings have changed between the answer and now: learn by its members, then add by name.
        increment = Contribution(members)
        algorithm.add(increment, taught.increments, taught.scale, taught.clock)
        union = realigned(part, members).members
        after = algorithm_over(union).merge([part, increment])
    return replace(after, n=after.n + taught.new)
