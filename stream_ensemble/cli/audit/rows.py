"""What the auditor keeps of each record: fixed-size rows, so that ten million requests fit on a disk.

An id is kept as 128 bits of BLAKE2b. A place is a topic's number, an offset and a row in one 64-bit number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[Any]

_ID = [("a", "<u8"), ("b", "<u8")]
#: ``appended`` and other times are milliseconds since the epoch; ``outputs`` a checksum of float64 numbers;
#: ``decided``: the committed offset of its reader lies behind it, so what it led to must be there.
PREDICTION = np.dtype(
    [
        *_ID,
        ("place", "<u8"),
        ("appended", "<i8"),
        ("outputs", "<u8"),
        ("member", "<u2"),
        ("answer", "u1"),
        ("beyond", "?"),
        ("dead", "?"),
        ("decided", "?"),
    ]
)
REQUEST = np.dtype(
    [
        *_ID,
        ("place", "<u8"),
        ("appended", "<i8"),
        ("deadline_ms", "<i4"),
        ("dead", "?"),
        ("decided", "?"),
    ]
)
#: Masks of members: of those without an output the missing ones, those that said so, and the unneeded ones.
FUSED = np.dtype(
    [
        *_ID,
        ("place", "<u8"),
        ("appended", "<i8"),
        ("missing", "<u8"),
        ("asleep", "<u8"),
        ("unneeded", "<u8"),
        ("status", "u1"),
        ("cause", "u1"),
        ("judged", "?"),
        ("teaches", "?"),
    ]
)
#: One output inside the fused record at ``fused``, and where its prediction is said to stand.
COMPONENT = np.dtype([*_ID, ("place", "<u8"), ("fused", "<u8"), ("outputs", "<u8"), ("member", "<u2")])
LATE = np.dtype([*_ID, ("place", "<u8")])
#: ``part``: of the request, by a hash; 0: the whole. ``origin``: the partition and place it was first written
#: at.
FEEDBACK = np.dtype(
    [
        *_ID,
        ("part", "<u8"),
        ("place", "<u8"),
        ("origin", "<u8"),
        ("partition", "<u4"),
        ("appended", "<i8"),
        ("revision", "<i8"),
        ("dead", "?"),
        ("decided", "?"),
    ]
)
APPLIED = np.dtype(
    [
        *_ID,
        ("part", "<u8"),
        ("place", "<u8"),
        ("origin", "<u8"),
        ("partition", "<u4"),
        ("appended", "<i8"),
        ("revision", "<i8"),
        ("generation", "<i8"),
        ("learned", "?"),
        ("gone", "?"),
    ]
)
#: A record on the wrong partition, or the copy of it on the right one: ``partition`` and ``place`` of the
#: first.
MOVED = np.dtype([*_ID, ("place", "<u8"), ("partition", "<u4"), ("copy", "?")])

TABLES = {
    "predictions": PREDICTION,
    "requests": REQUEST,
    "fused": FUSED,
    "components": COMPONENT,
    "late": LATE,
    "feedback": FEEDBACK,
    "applied": APPLIED,
}

#: A place: 7 bits of topic, 41 of offset, 16 of row.
_TOPIC_AT, _OFFSET_AT = 57, 16
NOWHERE = 2**64 - 1


def place(topic: int, offset: int, row: int = 0) -> int:
    """One number that names a row of a record within one partition; they compare as offsets do."""
    if not (0 <= topic < 1 << 7 and 0 <= offset < 1 << 41 and 0 <= row < 1 << 16):
        return NOWHERE
    return topic << _TOPIC_AT | offset << _OFFSET_AT | row


def parts(number: int) -> tuple[int, int, int]:
    """Topic, offset and row of a place."""
    offset = number >> _OFFSET_AT & (1 << _TOPIC_AT - _OFFSET_AT) - 1
    return number >> _TOPIC_AT, offset, number & (1 << _OFFSET_AT) - 1


def topics_of(places: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The topic numbers of N places."""
    return (places >> np.uint64(_TOPIC_AT)).astype(np.int64)


def hashes(ids: Sequence[bytes]) -> Rows:
    """128 bits of each of N ids, as the fields ``a`` and ``b``."""
    blake2b = hashlib.blake2b
    joined = b"".join([blake2b(each, digest_size=16).digest() for each in ids])
    return np.frombuffer(joined, np.dtype(_ID))


def part_hashes(parts: Sequence[str | None]) -> NDArray[np.uint64]:
    """64 bits of each of N parts of requests; 0 for None, the whole."""
    known = {part: _part_hash(part) for part in set(parts)}
    return np.array([known[part] for part in parts], np.uint64)


def _part_hash(part: str | None) -> int:
    if part is None:
        return 0
    return int.from_bytes(hashlib.blake2b(part.encode(), digest_size=8).digest(), "little")


def checksum(output: Iterable[float]) -> int:
    """64 bits of an output; equal for equal numbers, whatever form they were written in."""
    numbers = np.fromiter(output, np.float64) + 0.0  # -0.0 is 0.0
    return int.from_bytes(hashlib.blake2b(numbers.tobytes(), digest_size=8).digest(), "little")


def table(dtype: np.dtype[Any], ids: Rows, **columns: Any) -> Rows:
    """Rows of ``dtype``: the hashed ids, and a value or an array for each other field that is not zero."""
    made = np.zeros(len(ids), dtype)
    made["a"], made["b"] = ids["a"], ids["b"]
    for name, column in columns.items():
        made[name] = column
    return made
