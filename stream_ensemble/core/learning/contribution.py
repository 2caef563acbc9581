"""What one partition has learned for one (task, segment): additive sums and maxima, so that the whole is a
sum over partitions.

A state-based CRDT: contributions are never edited from outside, only replaced by a newer one of the same
partition, and the weights are computed from their sum in order of the partitions. Which arrays there are,
and what they mean, is the algorithm's.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble.errors import StateError
from stream_ensemble.messages import UNREADABLE

Vector = NDArray[np.float64]
#: Starts the names of arrays that are not per member.
PER_ARM = "top/"
_FORMAT = b"\x01"
_CHECKSUM_BYTES = 8


@dataclass(slots=True)
class Contribution:
    """Partition p's share of one (task, segment).

    Attributes:
        members: K names; the order of per-member arrays.
        sums: additive arrays by name. One whose name starts with ``PER_ARM`` is about the arms of an
            algorithm and has their number's length; every other has a number per member (K). A missing name
            is zeros.
        maxima: arrays that grow by maximum, named alike.
        n: labels learned.
        clock: the largest n a learned label was predicted at; discounted sums are as of this clock.
    """

    members: tuple[str, ...]
    sums: dict[str, Vector] = field(default_factory=dict)
    maxima: dict[str, Vector] = field(default_factory=dict)
    n: int = 0
    clock: float = 0.0

    def copy(self) -> Contribution:
        """A copy that shares no array."""
        return Contribution(
            self.members,
            {name: array.copy() for name, array in self.sums.items()},
            {name: array.copy() for name, array in self.maxima.items()},
            self.n,
            self.clock,
        )


def merged(
    parts: Sequence[Contribution], members: tuple[str, ...], half_lives: Mapping[str, float | None]
) -> Contribution:
    """The sum of contributions, in the given order (of partitions), for ``members``.

    Members are matched by name: an absent one is zero, a retired one is left out here and stays in its
    contribution. Discounted arrays (``half_lives`` gives labels until half by array name; None or absent:
    not discounted) are brought to the common clock.
    """
    whole = Contribution(members)
    if not parts:
        return whole
    whole.clock = max(part.clock for part in parts)
    for part in parts:
        whole.n += part.n
        place = _places(part.members, members)
        for name, array in part.sums.items():
            scaled = array * discount(half_lives.get(name), whole.clock - part.clock)
            aligned = _aligned(name, scaled, place, len(members))
            whole.sums[name] = whole.sums[name] + aligned if name in whole.sums else aligned
        for name, array in part.maxima.items():
            scaled = array * discount(half_lives.get(name), whole.clock - part.clock)
            aligned = _aligned(name, scaled, place, len(members))
            whole.maxima[name] = np.maximum(whole.maxima[name], aligned) if name in whole.maxima else aligned
    return whole


def realigned(part: Contribution, members: tuple[str, ...]) -> Contribution:
    """The same contribution over more members: those of ``members`` first, then the others it already
    knows."""
    names = members + tuple(name for name in part.members if name not in members)
    if names == part.members:
        return part
    place = _places(part.members, names)
    return Contribution(
        names,
        {name: _aligned(name, array, place, len(names)) for name, array in part.sums.items()},
        {name: _aligned(name, array, place, len(names)) for name, array in part.maxima.items()},
        part.n,
        part.clock,
    )


def discount(half_life: float | None, labels: float) -> float:
    """Factor on a sum after ``labels`` more labels; 1 without a half-life."""
    return 1.0 if half_life is None else float(2.0 ** (-labels / half_life))


def _places(old: tuple[str, ...], new: tuple[str, ...]) -> list[tuple[int, int]] | None:
    if old == new:
        return None
    index = {name: at for at, name in enumerate(new)}
    return [(at, index[name]) for at, name in enumerate(old) if name in index]


def _aligned(name: str, array: Vector, place: list[tuple[int, int]] | None, k: int) -> Vector:
    if place is None or name.startswith(PER_ARM):
        return array.copy()
    result = np.zeros(k)
    for old, new in place:
        result[new] = array[old]
    return result


# --- written forms ----------------------------------------------------------------------------------


class _Written(msgspec.Struct, array_like=True):
    members: tuple[str, ...]
    n: int
    clock: float
    sums: dict[str, bytes]
    maxima: dict[str, bytes]


def to_bytes(part: Contribution) -> bytes:
    """Compact form for Redis: a version byte, a checksum, MessagePack."""
    written = _Written(part.members, part.n, part.clock, _raw(part.sums), _raw(part.maxima))
    body = _FORMAT + msgspec.msgpack.encode(written)
    return hashlib.blake2b(body, digest_size=_CHECKSUM_BYTES).digest() + body


def from_bytes(raw: bytes) -> Contribution:
    """Read :func:`to_bytes` back.

    Raises:
        StateError: the value is too short, of another version, or was changed.
    """
    checksum, body = raw[:_CHECKSUM_BYTES], raw[_CHECKSUM_BYTES:]
    if len(body) < 2 or hashlib.blake2b(body, digest_size=_CHECKSUM_BYTES).digest() != checksum:
        raise StateError(
            f"contribution of {len(raw)} bytes: the checksum does not fit; it was cut or changed"
        )
    if body[:1] != _FORMAT:
        raise StateError(f"contribution of version {body[0]}, expected {_FORMAT[0]}")
    try:
        written = msgspec.msgpack.decode(body[1:], type=_Written)
    except UNREADABLE as error:
        raise StateError(f"contribution cannot be read: {error}") from None
    return sound(
        Contribution(
            written.members,
            _vectors(written.sums),
            _vectors(written.maxima),
            _count(written.n),
            _finite(written.clock),
        )
    )


def sound(part: Contribution) -> Contribution:
    """``part`` if its arrays are as long as it has members.

    Raises:
        StateError: one is not.
    """
    for name, array in (*part.sums.items(), *part.maxima.items()):
        if not name.startswith(PER_ARM) and len(array) != len(part.members):
            raise StateError(f"array {name!r} has {len(array)} numbers for {len(part.members)} members")
    return part


def to_base64(arrays: Mapping[str, Vector]) -> dict[str, str]:
    """Arrays as they stand in ``messages.Weights``: base64 of little-endian float64."""
    return {name: base64.b64encode(raw).decode() for name, raw in _raw(arrays).items()}


def from_base64(arrays: Mapping[str, str]) -> dict[str, Vector]:
    """Read :func:`to_base64` back.

    Raises:
        StateError: not base64, not whole float64, or not finite.
    """
    try:
        return _vectors({name: base64.b64decode(text, validate=True) for name, text in arrays.items()})
    except ValueError as error:
        raise StateError(f"an array of the weights record is not base64: {error}") from None


def _raw(arrays: Mapping[str, Vector]) -> dict[str, bytes]:
    return {name: np.ascontiguousarray(array, "<f8").tobytes() for name, array in arrays.items()}


def _vectors(raws: Mapping[str, bytes]) -> dict[str, Vector]:
    for name, raw in raws.items():
        if len(raw) % 8:
            raise StateError(f"array {name!r} has {len(raw)} bytes, which is no whole number of float64")
    # All at once: with many short arrays it is the calls that cost.
    numbers = np.frombuffer(b"".join(raws.values()), "<f8").astype(np.float64)
    finite = bool(np.isfinite(numbers).all())
    vectors, begin = {}, 0
    for name, raw in raws.items():
        end = begin + len(raw) // 8
        vectors[name] = numbers[begin:end]
        if not finite and not np.isfinite(vectors[name]).all():
            raise StateError(f"array {name!r} holds a number that is not finite")
        begin = end
    return vectors


def _count(n: int) -> int:
    if n < 0:
        raise StateError(f"a contribution of {n} labels")
    return n


def _finite(clock: float) -> float:
    if not np.isfinite(clock) or clock < 0:
        raise StateError(f"a contribution at clock {clock}")
    return clock
