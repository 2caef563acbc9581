"""What labels teach: the whole in groups that share a credit block, segments all at once.

A segment has credit of its own, so of many segments each has few labels: what they teach is worked out
together, with one credit a row, and then added segment by segment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.labels.matching import Charge
from stream_ensemble.core.labels.outputs import Outputs, stacked
from stream_ensemble.core.learning.additive import Additive, Floats, Increments
from stream_ensemble.core.learning.algorithm import Labelled, Trials
from stream_ensemble.core.learning.calibration import calibrates
from stream_ensemble.core.learning.contribution import Vector
from stream_ensemble.core.learning.segment_mixture import SegmentMixture
from stream_ensemble.core.learning.trial import apart
from stream_ensemble.messages import CreditBlock

#: Makes the algorithm of the settings over other members than today's.
AlgorithmOver = Callable[[tuple[str, ...]], Additive[Any]]


class Taught(NamedTuple):
    """What some labels of one clock teach one segment (None: the whole), for ``algorithm.add``.

    ``new`` is how many of them are a request's first.
    """

    segment: str | None
    algorithm: Additive[Any]
    increments: Increments
    scale: Floats
    clock: float
    new: int


@dataclass(frozen=True, slots=True)
class Credits:
    """The credit blocks that charges name, by digest, and which of them count: those of this generation."""

    blocks: Mapping[str, tuple[CreditBlock, Vector]]
    generation: int
    algorithm_over: AlgorithmOver

    def no_effect(self, *digests: str) -> str | None:
        """Why labels charged against these blocks together change nothing, if so: the word to count."""
        found = [self.blocks[digest] for digest in digests]
        if any(block.generation < self.generation for block, _ in found):
            return "older-generation"
        mixture = self.mixture(found[0][0].members)
        fits = len(found[0][1]) == mixture.width and all(mixture.fits(values) for _, values in found)
        ours = all(block.algorithm == mixture.name for block, _ in found)
        return None if ours and fits else "other-algorithm"

    def mixture(self, members: tuple[str, ...]) -> SegmentMixture:
        """That of the settings over these members."""
        return _mixture(self.algorithm_over, members)


def teach_whole(charges: Sequence[Charge], held: Credits, counts: Counter[str]) -> Iterator[Taught]:
    """What charges teach the whole; ``counts`` is told of what has no effect."""
    groups: dict[str, list[Charge]] = {}
    for one in charges:
        groups.setdefault(one.credit.everywhere, []).append(one)
    for digest, group in groups.items():
        no_effect = held.no_effect(digest)
        if no_effect:
            counts[no_effect] += len(group)
            continue
        block, values = held.blocks[digest]
        for some in ([one for one in group if not one.late], [one for one in group if one.late]):
            if some:
                yield from _teach_alike_whole(some, block, values, held)


def _teach_alike_whole(
    charges: Sequence[Charge], block: CreditBlock, values: Vector, held: Credits
) -> Iterator[Taught]:
    """The same of charges with one credit; all of them late, which teach of shadows only, or none."""
    members = block.members
    algorithm = held.algorithm_over(members)
    labelled = replace(
        _labelled(charges, members, float(block.n)),
        trials=_trials(charges, members, _classes(charges)),
        warm=_warm(charges, members),
    )
    if calibrates(algorithm) and not charges[0].late:
        labelled = replace(labelled, issued=_issued(charges, labelled, held))
    taught = algorithm.increments(values, labelled)
    new = sum(one.first for one in charges)
    strangers = _strangers(charges, members)
    if not strangers and not charges[0].late:
        yield Taught(None, algorithm, taught, labelled.scale, labelled.clock, new)
        return
    own, trials = apart(taught)
    if not charges[0].late:
        yield Taught(None, algorithm, own, labelled.scale, labelled.clock, new)
    beside = held.algorithm_over((*members, *strangers))
    yield Taught(None, beside, trials, labelled.scale, labelled.clock, 0)


def _issued(group: Sequence[Charge], labelled: Labelled, held: Credits) -> Floats:
    """What R charges of one block were answered by their credit before it was calibrated, R x C."""
    block, values = held.blocks[group[0].credit.everywhere]
    outputs, awake = labelled.outputs, labelled.awake
    issued = held.algorithm_over(block.members).fuse(values, outputs, awake)
    alike: dict[int, list[int]] = {}
    for row, one in enumerate(group):
        own = one.credit.segment
        if own is not None and not held.no_effect(one.credit.everywhere, own):
            alike.setdefault(len(held.blocks[own][1]), []).append(row)
    for rows in alike.values():
        own_values = np.stack([held.blocks[group[row].credit.segment or ""][1] for row in rows])
        mixture = held.mixture(block.members)
        issued[rows] = mixture.issued(values, own_values, outputs[rows], awake[rows])
    return issued


def teach_segments(charges: Sequence[Charge], held: Credits, counts: Counter[str]) -> Iterator[Taught]:
    """What charges teach the segments of their requests."""
    alike: dict[tuple[tuple[str, ...], int], list[Charge]] = {}
    for one in charges:
        own = one.credit.segment
        if own is None or one.segment is None:
            continue
        no_effect = held.no_effect(one.credit.everywhere, own)
        if no_effect:
            counts[no_effect] += 1
            continue
        block, values = held.blocks[own]
        alike.setdefault((block.members, len(values)), []).append(one)
    for (members, _), some in alike.items():
        yield from _teach_alike(members, some, held)


def _teach_alike(members: tuple[str, ...], charges: Sequence[Charge], held: Credits) -> Iterator[Taught]:
    """The same of R charges whose credit has one layout."""
    blocks = held.blocks
    groups: dict[tuple[str | None, str], list[int]] = {}
    for row, one in enumerate(charges):
        groups.setdefault((one.segment, one.credit.segment or ""), []).append(row)
    everywhere = np.stack([blocks[one.credit.everywhere][1] for one in charges])
    own = np.stack([blocks[one.credit.segment or ""][1] for one in charges])
    labelled = _labelled(charges, members, 0.0)
    taught = held.mixture(members).increments(everywhere, own, labelled)
    algorithm = held.algorithm_over(members)
    for (segment, digest), rows in groups.items():
        new = sum(charges[row].first for row in rows)
        clock = float(blocks[digest][0].n)
        yield Taught(segment, algorithm, taught.of(rows), labelled.scale[rows], clock, new)


@lru_cache(64)
def _mixture(algorithm_over: AlgorithmOver, members: tuple[str, ...]) -> SegmentMixture:
    return SegmentMixture(algorithm_over(members))


def _strangers(charges: Sequence[Charge], members: tuple[str, ...]) -> tuple[str, ...]:
    """Shadows that the credit does not know: the fuser's settings did not name them yet."""
    names = {name for one in charges if one.trials for name in one.trials}
    return tuple(sorted(names.difference(members)))


def _labelled(charges: Sequence[Charge], members: tuple[str, ...], clock: float) -> Labelled:
    """R charges as arrays, K members, C classes."""
    column = {member: k for k, member in enumerate(members)}
    classes = _classes(charges)
    outputs = np.zeros((len(charges), len(column), classes))
    awake = np.zeros((len(charges), len(column)), np.bool_)
    alike: dict[tuple[str, ...], list[tuple[int, Outputs]]] = {}
    for r, one in enumerate(charges):
        components = one.components
        if type(components) is Outputs:
            alike.setdefault(components.members, []).append((r, components))
            continue
        for member, output in components.items():
            outputs[r, column[member]] = output
            awake[r, column[member]] = True
    for answered, found in alike.items():
        places = np.ix_([r for r, _ in found], [column[member] for member in answered])
        outputs[places] = stacked([components for _, components in found])
        awake[places] = True
    return Labelled(
        outputs=outputs,
        awake=awake,
        labels=np.array([one.label for one in charges]),
        scale=np.array([one.sign * one.weight for one in charges], np.float64),
        clock=clock,
    )


def _classes(charges: Sequence[Charge]) -> int:
    """C: how many numbers an output has."""
    return len(next(iter(charges[0].components.values()), ()))


def _trials(charges: Sequence[Charge], members: tuple[str, ...], classes: int) -> Trials | None:
    """What shadows said, with a column for each member and behind them the strangers."""
    if not any(one.trials for one in charges):
        return None
    column = {member: k for k, member in enumerate((*members, *_strangers(charges, members)))}
    outputs = np.zeros((len(charges), len(column), classes))
    present = np.zeros((len(charges), len(column)), np.bool_)
    for r, one in enumerate(charges):
        for member, output in one.trials.items():
            outputs[r, column[member]] = output
            present[r, column[member]] = True
    return Trials(outputs, present)


def _warm(charges: Sequence[Charge], members: tuple[str, ...]) -> NDArray[np.bool_] | None:
    if not any(one.warm for one in charges):
        return None
    column = {member: k for k, member in enumerate(members)}
    warm = np.zeros((len(charges), len(column)), np.bool_)
    for r, one in enumerate(charges):
        for member in one.warm:
            if member in column:
                warm[r, column[member]] = True
    return warm
