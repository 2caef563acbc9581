"""Ended requests are remembered by hash and forgotten by log time."""

from __future__ import annotations

from stream_ensemble.core.join.closed_index import ClosedIndex

OLD = [b"old-%d" % n for n in range(500)]
NEW = [b"new-%d" % n for n in range(500)]


def test_it_knows_what_was_added_and_nothing_else() -> None:
    index = ClosedIndex()
    index.add(OLD, 100)
    assert index.contains(OLD).all()
    assert not index.contains(NEW).any()
    assert not index.contains([]).any()


def test_what_ended_before_a_time_is_forgotten() -> None:
    index = ClosedIndex()
    index.add(OLD, 100)
    index.add(NEW, 200)
    index.expire(150)
    assert not index.contains(OLD).any()
    assert index.contains(NEW).all()
    assert len(index) == len(NEW)


def test_many_small_additions_are_merged_and_none_is_lost() -> None:
    index = ClosedIndex()
    ids = [b"%d" % n for n in range(3000)]
    for begin in range(0, 3000, 10):
        index.add(ids[begin : begin + 10], begin)
    assert len(index._segments) <= 8
    assert index.contains(ids).all()
    assert not index.contains(NEW).any()


def test_the_same_id_twice_is_found() -> None:
    index = ClosedIndex()
    index.add([b"x", b"x"], 1)
    assert index.contains([b"x"]).all()
