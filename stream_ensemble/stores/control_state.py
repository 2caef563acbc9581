"""The control state of a partition beside its contributions: published, kept and read in the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from stream_ensemble.core.learning.control import joined
from stream_ensemble.errors import StateError
from stream_ensemble.messages import UNREADABLE, ControlState
from stream_ensemble.stores.contributions import Key, Stored

#: The key it stands under. No task is named so.
CONTROLS = Key("*")

_decode = msgspec.json.Decoder(ControlState).decode


def encode_state(state: ControlState) -> bytes:
    """The value in Redis."""
    return msgspec.json.encode(state)


def decode_state(value: bytes) -> ControlState:
    """Read :func:`encode_state` back.

    Raises:
        StateError: it cannot be read.
    """
    try:
        return _decode(value)
    except UNREADABLE as error:
        raise StateError(f"a control state cannot be read: {error}") from error


def state_of(fields: Mapping[int, Stored]) -> tuple[ControlState, list[StateError]]:
    """What the states of the partitions come to, and why some could not be read."""
    states: list[ControlState] = []
    refused: list[StateError] = []
    for stored in _in_order(fields):
        try:
            states.append(decode_state(stored.value))
        except StateError as error:
            refused.append(error)
    return joined(states), refused


def _in_order(fields: Mapping[int, Stored]) -> Iterable[Stored]:
    return (fields[partition] for partition in sorted(fields))
