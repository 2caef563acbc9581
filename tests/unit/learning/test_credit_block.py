"""Credit blocks say the same numbers back, or refuse."""

from __future__ import annotations

import base64

import msgspec
import numpy as np
import pytest

from stream_ensemble.core.learning.credit_block import decode, digest_of, encode
from stream_ensemble.errors import StateError
from stream_ensemble.messages import CreditBlock

VALUES = np.array([0.1, 1e-300, 3.0])
DIGEST, BLOCK = encode("ml_poly", 2, 30, ("a", "b", "c"), VALUES)


def test_the_same_numbers_come_back() -> None:
    again = msgspec.json.decode(msgspec.json.encode(BLOCK), type=CreditBlock)
    assert decode(DIGEST, again).tolist() == VALUES.tolist()
    assert len(DIGEST) == 16


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": "bank"},
        {"generation": 3},
        {"n": 31},
        {"members": ("a", "c", "b")},
        {"values": encode("ml_poly", 2, 30, ("a", "b", "c"), VALUES + 1)[1].values},
        {"values": BLOCK.values[:-1]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_change_is_noticed(change: dict[str, object]) -> None:
    changed = msgspec.structs.replace(BLOCK, **change)
    with pytest.raises(StateError, match="another digest"):
        decode(DIGEST, changed)


@pytest.mark.parametrize(
    "values",
    [
        "not base64!",
        base64.b64encode(b"1234567").decode(),
        encode("x", 0, 0, (), np.array([np.nan]))[1].values,
    ],
)
def test_values_that_are_no_numbers_are_refused_under_their_own_digest_too(values: str) -> None:
    block = msgspec.structs.replace(BLOCK, values=values)
    with pytest.raises(StateError):
        decode(digest_of(block), block)
