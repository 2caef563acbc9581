"""From charges to contributions: all labels that share their credit at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from stream_ensemble.core.labels.matching import Charge
from stream_ensemble.core.labels.records import Known
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.algorithm import Algorithm, Labelled
from stream_ensemble.core.learning.contribution import Contribution, Vector, realigned
from stream_ensemble.core.learning.segment_mixture import SegmentMixture
from stream_ensemble.errors import StateError
from stream_ensemble.messages import CreditBlock

#: Makes the algorithm of the settings over other members than today's.
AlgorithmOver = Callable[[tuple[str, ...]], Algorithm]


@dataclass(frozen=True, slots=True)
class Learned:
    """One partition's contributions by segment (None: the whole), of one generation. Not to be changed."""

    generation: int
    parts: Mapping[str | None, Contribution]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Contributions after some charges: ``changed`` segments differ, ``counts`` is what had no effect."""

    learned: Learned
    changed: frozenset[str | None]
    counts: Counter[str]


class _Group(NamedTuple):
    """Charges that teach the same: whose state, and the digests of the global credit and the segment's."""

    segment: str | None
    everywhere: str
    own: str | None


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
    groups: dict[_Group, list[Charge]] = {}
    for one in charges:
        groups.setdefault(_Group(None, one.credit.everywhere, None), []).append(one)
        if one.credit.segment is not None and one.segment is not None:
            group = _Group(one.segment, one.credit.everywhere, one.credit.segment)
            groups.setdefault(group, []).append(one)
    counts: Counter[str] = Counter()
    digests = {digest for group in groups for digest in (group.everywhere, group.own) if digest is not None}
    blocks = {digest: _block(digest, known) for digest in digests}
    generation = max([learned.generation, *(block.generation for block, _ in blocks.values())])
    parts = dict(learned.parts) if generation == learned.generation else {}
    changed: set[str | None] = set() if generation == learned.generation else set(learned.parts)
    for group, charged in groups.items():
        credit = [blocks[digest] for digest in (group.everywhere, group.own) if digest is not None]
        older = any(block.generation < generation for block, _ in credit)
        learn = None if older else _learning(credit, algorithm_over)
        if learn is None:
            counts["older-generation" if older else "other-algorithm"] += len(charged)
        else:
            block = credit[-1][0]
            parts[group.segment] = _learn(parts.get(group.segment), block, learn, charged, algorithm_over)
            changed.add(group.segment)
    # After a reset a segment without new labels still has to say that it is empty now.
    for segment in changed - parts.keys():
        parts[segment] = Contribution(algorithm_over(()).members)
    return Outcome(Learned(generation, parts), frozenset(changed), counts)


def _block(digest: str, known: Known) -> tuple[CreditBlock, Vector]:
    block = known.block(digest)
    if block is None:
        raise StateError(f"credit block {digest} is gone between matching a label and charging it")
    return block, credit_block.decode(digest, block)


def _learning(
    credit: Sequence[tuple[CreditBlock, Vector]], algorithm_over: AlgorithmOver
) -> Callable[[Contribution, Labelled], None] | None:
    """Adds what labels teach at this credit: the global one, with the segment's behind it where it is a
    segment that learns. None: it is not of the algorithm of the settings.
    """
    (block, everywhere), *of_segment = credit
    algorithm, mixture = algorithm_over(block.members), _mixture(algorithm_over, block.members)
    if any(each.algorithm != algorithm.name for each, _ in credit) or len(everywhere) != mixture.width:
        return None
    if not of_segment:
        return lambda part, labelled: algorithm.learn(part, everywhere, labelled)
    ((_, own),) = of_segment
    if not mixture.fits(own):
        return None
    return lambda part, labelled: mixture.learn(part, everywhere, own, labelled)


@lru_cache(64)
def _mixture(algorithm_over: AlgorithmOver, members: tuple[str, ...]) -> SegmentMixture:
    """Made once: what it costs would be felt where every label is of another segment."""
    return SegmentMixture(algorithm_over(members))


def _learn(
    part: Contribution | None,
    block: CreditBlock,
    learn: Callable[[Contribution, Labelled], None],
    group: Sequence[Charge],
    algorithm_over: AlgorithmOver,
) -> Contribution:
    """The contribution after a group of charges that share their credit, of which ``block`` is its own."""
    labelled = _labelled(group, block)
    new = sum(one.first for one in group)
    if part is None or part.members[: len(block.members)] == block.members:
        after = part.copy() if part else Contribution(block.members)
        learn(after, labelled)
    else:
        # The settings have changed between the answer and now: learn by its members, then add by name.
        increment = Contribution(block.members)
        learn(increment, labelled)
        union = realigned(part, block.members).members
        after = algorithm_over(union).merge([part, increment])
    return replace(after, n=after.n + new)


def _labelled(group: Sequence[Charge], block: CreditBlock) -> Labelled:
    """R charges as arrays, K members in the order of the block, C classes."""
    column = {member: k for k, member in enumerate(block.members)}
    classes = len(next(iter(group[0].components.values()), ()))
    outputs = np.zeros((len(group), len(column), classes))
    awake = np.zeros((len(group), len(column)), np.bool_)
    for r, one in enumerate(group):
        for member, output in one.components.items():
            outputs[r, column[member]] = output
            awake[r, column[member]] = True
    return Labelled(
        outputs=outputs,
        awake=awake,
        labels=np.array([one.label for one in group], np.int64),
        scale=np.array([one.sign * one.weight for one in group], np.float64),
        clock=float(block.n),
    )
