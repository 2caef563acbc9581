"""From charges to contributions: all labels that share a credit block at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stream_ensemble.core.labels.matching import Charge
from stream_ensemble.core.labels.records import Known
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.algorithm import Algorithm, Labelled
from stream_ensemble.core.learning.contribution import Contribution, Vector, realigned
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
    groups: dict[tuple[str | None, str], list[Charge]] = {}
    for one in charges:
        groups.setdefault((None, one.credit.everywhere), []).append(one)
        if one.credit.segment is not None:
            groups.setdefault((one.segment, one.credit.segment), []).append(one)
    counts: Counter[str] = Counter()
    blocks = {digest: _block(digest, known) for _, digest in groups}
    generation = max([learned.generation, *(block.generation for block, _ in blocks.values())])
    parts = dict(learned.parts) if generation == learned.generation else {}
    changed: set[str | None] = set() if generation == learned.generation else set(learned.parts)
    for (segment, digest), group in groups.items():
        block, values = blocks[digest]
        algorithm = algorithm_over(block.members)
        if block.generation < generation:
            counts["older-generation"] += len(group)
        elif block.algorithm != algorithm.name or len(values) != _layout(algorithm):
            counts["other-algorithm"] += len(group)
        else:
            parts[segment] = _learn(parts.get(segment), block, values, group, algorithm_over)
            changed.add(segment)
    # After a reset a segment without new labels still has to say that it is empty now.
    for segment in changed - parts.keys():
        parts[segment] = Contribution(algorithm_over(()).members)
    return Outcome(Learned(generation, parts), frozenset(changed), counts)


def _block(digest: str, known: Known) -> tuple[CreditBlock, Vector]:
    block = known.block(digest)
    if block is None:
        raise StateError(f"credit block {digest} is gone between matching a label and charging it")
    return block, credit_block.decode(digest, block)


def _layout(algorithm: Algorithm) -> int:
    """How many numbers its credit is."""
    return len(algorithm.credit(algorithm.merge([])))


def _learn(
    part: Contribution | None,
    block: CreditBlock,
    values: Vector,
    group: Sequence[Charge],
    algorithm_over: AlgorithmOver,
) -> Contribution:
    """The contribution after a group of charges that share a block."""
    algorithm = algorithm_over(block.members)
    labelled = _labelled(group, block)
    new = sum(one.first for one in group)
    if part is None or part.members[: len(block.members)] == block.members:
        after = part.copy() if part else Contribution(block.members)
        algorithm.learn(after, values, labelled)
    else:
        # The settings have changed between the answer and now: learn by its members, then add by name.
        increment = Contribution(block.members)
        algorithm.learn(increment, values, labelled)
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
