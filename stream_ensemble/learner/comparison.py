"""Live contributions beside recomputed ones: where they differ by more than rounding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from stream_ensemble.core.learning.contribution import PER_ARM, Contribution, Vector, from_bytes, realigned
from stream_ensemble.learner.cut import Cut
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.learner.replay import Replayed
from stream_ensemble.stores.contributions import Key, Order
from stream_ensemble.stores.control_state import CONTROLS
from stream_ensemble.stores.weights_topic import Written

#: Of the sum of |increments|: what two orders of adding may differ by.
TOLERANCE = 1e-12


class Difference(NamedTuple):
    """One number that is not what it should be.

    Attributes:
        where: ``weights topic`` or ``redis``.
        what: which number: ``n``, ``clock``, or an array with the member it is about.
        live, expected: both, as text.
    """

    key: Key
    partition: int
    where: str
    what: str
    live: str
    expected: str


def differences(ensemble: LearnedEnsemble, p: int, live: Cut, replayed: Replayed) -> Iterator[Difference]:
    """Everything in which partition p is not what its topics give; and Redis not what the weights topic is.

    Sums may differ by ``TOLERANCE`` of the sum of |increments|. Maxima may too; where a label was corrected
    they are left out, for the maximum of a label that was taken back stays if it was ever charged. What is
    live of an older generation or of another algorithm counts nothing and is left out.
    """
    usable = _usable(ensemble, live)
    segments = {key.segment for key in usable} | set(replayed.by_segment)
    for segment in sorted(segments, key=lambda name: (name is not None, name or "")):
        key = Key(ensemble.task, segment)
        held = (
            from_bytes(usable[key].stored.value)
            if key in usable
            else Contribution(ensemble.algorithm.members)
        )
        expected = replayed.by_segment.get(segment, Contribution(held.members))
        sizes = replayed.sizes.get(segment, {})
        for what, found, wanted in _unlike(held, expected, sizes, maxima=not replayed.corrected):
            yield Difference(key, p, "weights topic", what, found, wanted)
    generation = max([0, *(stored.order.generation for stored in live.stored.values())])
    if generation != replayed.generation:
        key = Key(ensemble.task)
        yield Difference(key, p, "weights topic", "generation", str(generation), str(replayed.generation))
    if replayed.controls is not None and live.controls != replayed.controls:
        expected_number = f"number {replayed.controls.number}"
        found_number = f"number {live.controls.number}"
        yield Difference(CONTROLS, p, "weights topic", "control state", found_number, expected_number)
    yield from _in_redis(p, live)


def _usable(ensemble: LearnedEnsemble, live: Cut) -> dict[Key, Written]:
    generation = max([0, *(stored.order.generation for stored in live.stored.values())])
    return {
        key: written
        for key, written in live.weights.items()
        if key.task == ensemble.task
        and written.stored.order.generation == generation
        and written.algorithm == ensemble.algorithm.name
    }


def _unlike(
    live: Contribution, expected: Contribution, sizes: Mapping[str, Vector], *, maxima: bool
) -> Iterator[tuple[str, str, str]]:
    members = live.members + tuple(name for name in expected.members if name not in live.members)
    one, other = realigned(live, members), realigned(expected, members)
    for name, numbers in (("n", (one.n, other.n)), ("clock", (one.clock, other.clock))):
        if numbers[0] != numbers[1]:
            yield name, f"{numbers[0]:g}", f"{numbers[1]:g}"
    for name in sorted(one.sums.keys() | other.sums.keys()):
        # What is learned beside the algorithm's own arrays is of regrets too: they say its scale.
        size = sizes[name].sum() if name in sizes else sum(each.sum() for each in sizes.values())
        allowed = TOLERANCE * float(size)
        yield from _unlike_arrays(name, members, one.sums.get(name), other.sums.get(name), allowed)
    for name in sorted(one.maxima.keys() | other.maxima.keys()) if maxima else ():
        largest = float(np.max(other.maxima.get(name, np.zeros(1)), initial=0.0))
        allowed = TOLERANCE * largest
        what = f"maximum of {name}"
        yield from _unlike_arrays(what, members, one.maxima.get(name), other.maxima.get(name), allowed)


def _unlike_arrays(
    name: str, members: tuple[str, ...], live: Vector | None, expected: Vector | None, allowed: float
) -> Iterator[tuple[str, str, str]]:
    if live is None or expected is None:
        there = next(array for array in (live, expected) if array is not None)
        live = np.zeros_like(there) if live is None else live
        expected = np.zeros_like(there) if expected is None else expected
    if live.shape != expected.shape:
        yield name, f"{len(live)} numbers", f"{len(expected)} numbers"
        return
    for place in np.flatnonzero(~(np.abs(live - expected) <= allowed)).tolist():
        of_arms = PER_ARM in name
        which = f"{name}[{place}]" if of_arms else f"{name} of {members[place]}"
        yield which, f"{live[place]:.17g}", f"{expected[place]:.17g}"


def _in_redis(p: int, live: Cut) -> Iterator[Difference]:
    if live.redis is None:
        return
    for (key, _), error in live.redis.damaged.items():
        if key is not None:
            yield Difference(key, p, "redis", "field", f"damaged ({error})", "the weights topic's")
    for key, expected in live.stored.items():
        stored, order = live.redis.fields.get(key, {}).get(p), live.redis.order(key, p)
        if (key, p) in live.redis.damaged:
            continue
        if order is None:
            yield Difference(key, p, "redis", "field", "missing", told(expected.order))
        elif order != expected.order:
            yield Difference(key, p, "redis", "order", told(order), told(expected.order))
        elif stored is not None and stored.value != expected.value:
            yield Difference(key, p, "redis", "bytes", "other ones", "those of the weights topic")


def told(order: Order) -> str:
    """An order for a person: generation.epoch.sequence."""
    return f"{order.generation}.{order.epoch}.{order.sequence}"
