"""Who owns a partition while workers with different settings share a group, and whom it waits for."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from stream_ensemble import config
from stream_ensemble.fuser.ensemble import FusedEnsemble, fused_ensemble
from stream_ensemble.fuser.owner import FuseOwner

TASK = config.Task(classes=["x", "y"])


def ensemble(members: str, shadows: str = "", *, requests: bool = True) -> FusedEnsemble:
    topics = config.Topics() if requests else config.Topics(requests="")
    chosen = config.Ensemble(members=list(members), shadows=list(shadows), task=TASK, topics=topics)
    return fused_ensemble(config.Settings(ensembles={"e": chosen}), "e", None)  # type: ignore[arg-type]


def split(old: FusedEnsemble, new: FusedEnsemble) -> list[tuple[set[str], set[str]]]:
    """What the group may give an old and a new worker of one partition: topics that both read go together,
    those that only one reads to any worker that reads them, here or elsewhere."""
    both = set(old.inputs) & set(new.inputs)
    own_old, own_new = set(old.inputs) - both, set(new.inputs) - both
    found = []
    for of_old, here_old, here_new in itertools.product((True, False), repeat=3):
        given_old = (both if of_old else set()) | (own_old if here_old else set())
        given_new = (set() if of_old else both) | (own_new if here_new else set())
        found.append((given_old, given_new))
    return found


@pytest.mark.parametrize("requests", [True, False])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("abc", ""), ("abcd", "")),
        (("abc", ""), ("ab", "")),
        (("abc", ""), ("bc", "")),
        (("abc", ""), ("abd", "")),
        (("ab", ""), ("ab", "cdefgh")),
        (("a", ""), ("a", "b")),
        (("ab", "cd"), ("a", "bd")),
        (("abc", "d"), ("bcd", "")),
        (("abc", ""), ("cab", "")),
    ],
)
def test_in_a_rolling_restart_each_partition_has_one_owner_however_its_topics_are_split(
    old: tuple[str, str], new: tuple[str, str], requests: bool
) -> None:
    one, other = ensemble(*old, requests=requests), ensemble(*new, requests=requests)
    for given_old, given_new in split(one, other):
        assert [one.owns(given_old), other.owns(given_new)].count(True) == 1, (given_old, given_new)


def test_one_member_more_beside_one_takes_a_requests_topic() -> None:
    one, other = ensemble("a"), ensemble("ab")
    for given_old, given_new in split(one, other):
        assert [one.owns(given_old), other.owns(given_new)].count(True) == 1


def test_what_is_another_s_is_not_owned_and_what_is_missing_is_noted() -> None:
    known = ensemble("abc", "s")
    app: Any = SimpleNamespace(consumer=None)
    settings: Any = SimpleNamespace(app="a", kafka=config.Kafka())
    owner = FuseOwner(app, settings, [known], None, {})  # type: ignore[arg-type]
    core = ["e.predictions.a", "e.predictions.b", "e.requests"]
    given = frozenset([*(TP(topic, 0) for topic in core), TP("e.predictions.c", 1), TP("e.predictions.s", 1)])
    assert owner._places(given) == {("e", 0): set(core)}


def test_nobody_waits_for_a_member_whose_topic_is_another_s() -> None:
    weights: Any = SimpleNamespace(current=lambda: SimpleNamespace(membership=None))
    chosen = config.Ensemble(members=["a", "b", "c"], shadows=["s"], task=TASK)
    known = fused_ensemble(config.Settings(ensembles={"e": chosen}), "e", weights)
    partition = known.partition(0, None, pytest.fail, ["e.predictions.c"])  # type: ignore[arg-type]
    assert int(partition.join.everyone) == 0b0011
    whole = known.partition(0, None, pytest.fail)  # type: ignore[arg-type]
    assert int(whole.join.everyone) == 0b0111
