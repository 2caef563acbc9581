"""What a control record must say, and that it reads back."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.control import NOTHING, applied, checked
from stream_ensemble.errors import RecordError, StateError
from stream_ensemble.messages import Control, PinnedWeights
from stream_ensemble.stores.contributions import Order, Stored
from stream_ensemble.stores.control_state import decode_state, encode_state, state_of
from stream_ensemble.stores.weights_topic import decode_controls, encode_controls

_, BLOCK = credit_block.encode("ml_poly", 0, 5, ("a", "b"), np.array([1.0, 0.5]))


def control(action: Any = "pin", **fields: Any) -> Control:
    return Control(version=1, kind="control", number=4, id="x", action=action, **fields)


@pytest.mark.parametrize(
    ("wrong", "reason", "field"),
    [
        (control(), "missing-field", "pinned"),
        (control(pinned=PinnedWeights(weights={})), "wrong-field", "pinned.weights"),
        (control(pinned=PinnedWeights(weights={"a": 0.0})), "wrong-field", "pinned.weights"),
        (
            control(
                pinned=PinnedWeights(weights={"a": 1.0}, credit=msgspec.structs.replace(BLOCK, values="!"))
            ),
            "wrong-field",
            "pinned.credit",
        ),
        (control("reset"), "missing-field", "generation"),
    ],
)
def test_what_an_action_needs_is_named(wrong: Control, reason: str, field: str) -> None:
    with pytest.raises(RecordError) as raised:
        checked(wrong)
    assert raised.value.reason == reason
    assert raised.value.detail.startswith(f"{field}: ")


@pytest.mark.parametrize(
    "good",
    [
        control(pinned=PinnedWeights(weights={"a": 1.0}, credit=BLOCK)),
        control("unpin"),
        control("reset", generation=2),
    ],
)
def test_what_says_all_is_taken_and_its_state_reads_back(good: Control) -> None:
    assert checked(good) is good
    state = applied(NOTHING, good)
    assert decode_state(encode_state(state)) == state
    found = decode_controls(encode_controls(3, Order(1, 2, 9), state))
    assert found == (Order(1, 2, 9), state)


def test_a_state_that_cannot_be_read_counts_nothing_and_is_said() -> None:
    good = applied(NOTHING, control("unpin"))
    fields = {1: Stored(Order(0, 1, 1), encode_state(good)), 0: Stored(Order(0, 1, 1), b"{")}
    state, refused = state_of(fields)
    assert state == good
    assert len(refused) == 1
    with pytest.raises(StateError):
        decode_controls(b"{}")
