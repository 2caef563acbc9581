"""Shadows are scored once for each request they answered, in time or late, whatever the order of fused
records, labels, corrections, late predictions (some twice) and flushes, and whomever fusers' settings name.

The oracle scores each winning label with each shadow once, one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.core.labels.by_segment import BySegment
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.charging import Learned, charge
from stream_ensemble.core.labels.matching import take_answer, take_labels, take_trials
from stream_ensemble.core.labels.records import Answer, Feedback
from stream_ensemble.core.labels.rules import Rules
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.bank import Bank
from stream_ensemble.core.learning.membership import WARM_LABELS
from stream_ensemble.core.learning.trial import FRACTIONS, WithTrials
from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.messages import Trial
from stream_ensemble.stores.labels import Position
from stream_ensemble.stores.memory_labels import MemoryLabelStore

CLASSES = ("x", "y")
HORIZON, SHARE = 1000, 0.2
RULES = Rules(Classes(CLASSES), HORIZON, 10**12)
#: Whom the fuser of a request knew: an older configuration, or one with a member moved or retired.
CONFIGURATIONS = [("a", "b"), ("a", "b", "s", "t"), ("b", "s", "a"), ("t", "a", "b")]


@lru_cache
def over(members: tuple[str, ...]) -> WithTrials[Any]:
    return WithTrials(Bank(members), SHARE)


@lru_cache
def block_of(members: tuple[str, ...], n: int) -> tuple[str, Any]:
    width = len(over(members).credit(over(members).merge([])))
    values = np.random.default_rng(n).random(width)
    return credit_block.encode("bank", 0, n, members, values)


outputs = st.integers(1, 99).map(lambda n: [n / 100, 1 - n / 100])


class Request(NamedTuple):
    """A fused record: configuration and clock of its credit, who answered, who in shadow; is a warm?"""

    configuration: int
    n: int
    components: dict[str, list[float]]
    shadow: dict[str, list[float]]
    warm: bool

    def answer(self, offset: int) -> Answer:
        digest, block = block_of(CONFIGURATIONS[self.configuration], self.n)
        record: dict[str, Any] = {"components": self.components | self.shadow, "shadow": list(self.shadow)}
        record["credit"] = {"everywhere": digest, "blocks": {digest: block}}
        if self.warm:
            record["warm"] = {"a": 0.1}
        return Answer(offset, 5000 + offset, msgspec.json.encode(record))


requests = st.builds(
    Request,
    st.integers(0, 3),
    st.sampled_from([0, 3, 20]),
    st.dictionaries(st.sampled_from("ab"), outputs, min_size=1),
    st.dictionaries(st.sampled_from("st"), outputs),
    st.booleans(),
)


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Request], list[Feedback], list[Trial], list[object]]:
    asked = draw(st.lists(requests, min_size=1, max_size=5))
    one = st.integers(0, len(asked) - 1)
    labels = [
        Feedback(f"r{r}", name, revision, weight, 5100 + at, ("feedback", 0, offset, 0), bytes)
        for offset, (r, name, revision, weight, at) in enumerate(
            draw(
                st.lists(
                    st.tuples(
                        one,
                        st.sampled_from(CLASSES),
                        st.integers(0, 2),
                        st.sampled_from([1.0, 0.5]),
                        st.integers(0, 5),
                    ),
                    max_size=8,
                )
            )
        )
    ]
    trials = [
        Trial(
            version=1,
            kind="trial",
            request_id=f"r{r}",
            member=member,
            output=output,
            appended=5000 + after,
            source=("p", 0, 0, 0),
        )
        for (r, member), (output, after) in draw(
            st.dictionaries(
                st.tuples(one, st.sampled_from("stu")),
                st.tuples(outputs, st.sampled_from([1, 500, HORIZON + 500])),
                max_size=6,
            )
        ).items()
    ]
    again = draw(st.lists(st.sampled_from([*labels, *trials]), max_size=4)) if labels or trials else []
    flushes: list[None] = [None] * draw(st.integers(0, 4))
    events = [*range(len(asked)), *labels, *trials, *again, *flushes]
    return asked, labels, trials, draw(st.permutations(events))


def learn(asked: Sequence[Request], schedule: Sequence[object]) -> Learned:
    store = MemoryLabelStore()
    changes, learned = Changes(store), Learned(0, BySegment())
    charges: list[Any] = []
    for event in [*schedule, None]:
        if event is None:
            learned = charge(learned, charges, changes, over).learned
            store.write(changes, Position("me", 0, 0, 0))
            changes, charges = Changes(store), []
        elif isinstance(event, Feedback):
            charges += take_labels(changes, RULES, [event], 0)
        elif isinstance(event, Trial):
            charges += take_trials(changes, RULES, [event])
        else:
            assert isinstance(event, int)
            charges += take_answer(changes, RULES, f"r{event}", asked[event].answer(event))
    return learned


def expected(
    asked: Sequence[Request], labels: Sequence[Feedback], trials: Sequence[Trial]
) -> dict[str, dict[str, float]]:
    """By array, by member."""
    best: dict[str, Feedback] = {}
    for label in labels:
        place = (label.revision, label.appended, label.origin)
        held = best.get(label.request_id)
        if held is None or place > (held.revision, held.appended, held.origin):
            best[label.request_id] = label
    found: dict[str, dict[str, float]] = {}

    def add(array: str, member: str, value: float) -> None:
        found.setdefault(array, {})[member] = found.get(array, {}).get(member, 0.0) + value

    for request_id, label in best.items():
        number = int(request_id[1:])
        request = asked[number]
        members = CONFIGURATIONS[request.configuration]
        digest, block = block_of(members, request.n)
        x = np.zeros((1, len(members), 2))
        awake = np.zeros((1, len(members)), np.bool_)
        for member, output in request.components.items():
            x[0, members.index(member)], awake[0, members.index(member)] = output, True
        truth = CLASSES.index(str(label.label))
        m = over(members).fuse(credit_block.decode(digest, block), x, awake)[0, truth]
        said = dict(request.shadow)
        for trial in trials:
            in_time = trial.appended - (5000 + number) <= HORIZON
            if trial.request_id == request_id and trial.member not in said and in_time:
                said[trial.member] = trial.output
        for member, output in said.items():
            gain = math.log((1 - SHARE) * m + SHARE * output[truth]) - math.log(m)
            add("n", member, label.weight)
            add("gain", member, label.weight * gain)
            for i, f in enumerate(FRACTIONS):
                add(f"bet{i}", member, label.weight * math.log1p(f * gain / -math.log1p(-SHARE)))
        if request.warm and "a" in request.components:
            add("warm", "a", label.weight)
    return found


@given(run=runs())
def test_any_interleaving_scores_each_shadow_once(
    run: tuple[list[Request], list[Feedback], list[Trial], list[object]],
) -> None:
    asked, labels, trials, schedule = run
    learned = learn(asked, schedule)
    wanted = expected(asked, labels, trials)
    if None not in learned.by_segment:
        assert not labels
        return
    part = learned.by_segment[None]
    assert all(len(array) == len(part.members) for name, array in part.sums.items() if "top/" not in name)
    for array in ("n", "gain", *(f"bet{i}" for i in range(len(FRACTIONS))), "warm"):
        name = WARM_LABELS if array == "warm" else f"trial@0.2/{array}"
        held = dict(zip(part.members, part.sums.get(name, np.zeros(len(part.members))).tolist(), strict=True))
        for member in {*held, *wanted.get(array, {})}:
            assert math.isclose(
                held.get(member, 0.0), wanted.get(array, {}).get(member, 0.0), abs_tol=1e-11
            ), (array, member)


@given(run=runs())
def test_what_members_learn_does_not_depend_on_shadows(
    run: tuple[list[Request], list[Feedback], list[Trial], list[object]],
) -> None:
    asked, _, _, schedule = run
    without = [request._replace(shadow={}, warm=False) for request in asked]
    one, other = learn(asked, schedule), learn(without, [e for e in schedule if not isinstance(e, Trial)])
    if None not in other.by_segment:
        assert None not in one.by_segment
        return
    members = ("a", "b", "s", "t", "u")
    found, wanted = (over(members).merge([learned.by_segment[None]]) for learned in (one, other))
    assert (found.n, found.clock) == (wanted.n, wanted.clock)
    for name, array in wanted.sums.items():
        np.testing.assert_allclose(
            found.sums[name], array, rtol=0, atol=1e-11 * max(1.0, float(np.abs(array).max()))
        )
