"""Contributions: merged by member name and clock, written and read back, refused when damaged."""

from __future__ import annotations

import base64
import hashlib

import msgspec
import numpy as np
import pytest

from stream_ensemble.core.learning.contribution import (
    Contribution,
    discount,
    from_base64,
    from_bytes,
    merged,
    realigned,
    to_base64,
    to_bytes,
)
from stream_ensemble.errors import StateError


def part(members: tuple[str, ...], values: list[float], n: int = 1, clock: float = 0.0) -> Contribution:
    return Contribution(members, {"R": np.array(values)}, {"B": np.abs(values)}, n, clock)


def test_sums_add_up_and_maxima_do_not() -> None:
    whole = merged([part(("a", "b"), [1, -2], 3), part(("a", "b"), [10, 1], 4)], ("a", "b"), {})
    assert whole.sums["R"].tolist() == [11, -1]
    assert whole.maxima["B"].tolist() == [10, 2]
    assert whole.n == 7


def test_members_are_matched_by_name() -> None:
    whole = merged([part(("b", "gone", "a"), [1, 2, 3]), part(("a",), [10])], ("a", "new", "b"), {})
    assert whole.sums["R"].tolist() == [13, 0, 1]
    assert whole.maxima["B"].tolist() == [10, 0, 1]


def test_arrays_of_arms_are_not_matched_by_member() -> None:
    held = Contribution(("a", "b"), {"top/inf": np.array([5.0, 7.0])}, {"top/inf": np.array([2.0])})
    assert merged([held], ("b", "a"), {}).sums["top/inf"].tolist() == [5, 7]
    assert realigned(held, ("c",)).maxima["top/inf"].tolist() == [2]


def test_discounted_arrays_come_to_the_common_clock() -> None:
    parts = [part(("a",), [8], clock=10.0), part(("a",), [1], clock=30.0)]
    whole = merged(parts, ("a",), {"R": 10.0, "B": None})
    assert whole.clock == 30.0
    assert whole.sums["R"].tolist() == [3.0]
    assert whole.maxima["B"].tolist() == [8.0]
    assert merged(parts, ("a",), {"B": 10.0}).maxima["B"].tolist() == [2.0]


def test_merging_nothing_and_merging_again() -> None:
    assert merged([], ("a",), {}) == Contribution(("a",))
    one = part(("a", "b"), [1, 2], 3, 4.0)
    again = merged([merged([one], ("a", "b"), {"R": 7.0})], ("a", "b"), {"R": 7.0})
    assert to_bytes(again) == to_bytes(one)


def test_merging_leaves_what_it_merges() -> None:
    one, other = part(("a", "b"), [1, 2]), part(("b", "a"), [3, 4], clock=5.0)
    before = to_bytes(one), to_bytes(other)
    whole = merged([one, other], ("a", "b"), {"R": 2.0})
    whole.sums["R"][:] = 0
    assert (to_bytes(one), to_bytes(other)) == before


def test_members_unknown_to_the_settings_are_kept() -> None:
    kept = realigned(part(("old", "a"), [1, 2], 5, 6.0), ("a", "b"))
    assert kept.members == ("a", "b", "old")
    assert kept.sums["R"].tolist() == [2, 0, 1]
    assert (kept.n, kept.clock) == (5, 6.0)


def test_discount() -> None:
    assert discount(None, 1e300) == 1.0
    assert discount(50.0, 0.0) == 1.0
    assert discount(50.0, 100.0) == 0.25
    assert discount(50.0, 1e300) == 0.0


def test_a_copy_shares_nothing() -> None:
    one = part(("a",), [1])
    copy = one.copy()
    copy.sums["R"][0] = copy.maxima["B"][0] = 9
    assert one.sums["R"][0] == one.maxima["B"][0] == 1


def _written() -> bytes:
    held = Contribution(("a", "b"), {"R": np.array([0.1, -1e300])}, {"B": np.array([5e-324, 0.0])}, 12, 3.5)
    return to_bytes(held)


def test_bytes_come_back_to_the_last_bit() -> None:
    read = from_bytes(_written())
    assert read.members == ("a", "b")
    assert read.sums["R"].tolist() == [0.1, -1e300]
    assert read.maxima["B"].tolist() == [5e-324, 0.0]
    assert (read.n, read.clock) == (12, 3.5)
    assert to_bytes(read) == _written()


def test_every_changed_byte_is_noticed() -> None:
    raw = _written()
    for at in range(len(raw)):
        with pytest.raises(StateError):
            from_bytes(raw[:at] + bytes([raw[at] ^ 0x10]) + raw[at + 1 :])


def test_every_cut_is_noticed() -> None:
    raw = _written()
    for length in range(len(raw)):
        with pytest.raises(StateError):
            from_bytes(raw[:length])


def _sealed(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=8).digest() + body


@pytest.mark.parametrize(
    ("n", "clock", "sums"),
    [
        (-1, 0.0, {}),
        (1, -1.0, {}),
        (1, float("nan"), {}),
        (1, float("inf"), {}),
        (1, 0.0, {"R": b"1234567"}),
        (1, 0.0, {"R": np.array([np.nan]).tobytes()}),
        (1, 0.0, {"R": np.array([np.inf]).tobytes()}),
    ],
)
def test_numbers_that_cannot_be_are_refused(n: int, clock: float, sums: dict[str, bytes]) -> None:
    with pytest.raises(StateError):
        from_bytes(_sealed(b"\x01" + msgspec.msgpack.encode([["a"], n, clock, sums, {}])))
    with pytest.raises(StateError):
        from_bytes(_sealed(b"\x01" + msgspec.msgpack.encode([["a"], n, clock, {}, sums or {"R": b"1"}])))


def test_another_version_or_shape_is_refused() -> None:
    body = msgspec.msgpack.encode([["a"], 1, 0.0, {}, {}])
    assert from_bytes(_sealed(b"\x01" + body)).n == 1
    with pytest.raises(StateError, match="version 2"):
        from_bytes(_sealed(b"\x02" + body))
    with pytest.raises(StateError, match="cannot be read"):
        from_bytes(_sealed(b"\x01" + msgspec.msgpack.encode({"n": 1})))


def test_base64_comes_back_and_damage_is_refused() -> None:
    written = to_base64({"R": np.array([0.1, -2.0])})
    assert from_base64(written)["R"].tolist() == [0.1, -2.0]
    for damaged in (written["R"][:-1], written["R"] + "=", "!" + written["R"][1:], "AAAA"):
        with pytest.raises(StateError):
            from_base64({"R": damaged})
    with pytest.raises(StateError, match="finite"):
        from_base64({"R": base64.b64encode(np.array([np.nan]).tobytes()).decode()})
