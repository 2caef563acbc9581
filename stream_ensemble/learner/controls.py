"""Control records off the feedback topic."""

from __future__ import annotations

from typing import Final

import msgspec

from stream_ensemble.core.learning.control import checked
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.decode import decode
from stream_ensemble.messages import Control


class _Kind(msgspec.Struct):
    kind: str = ""


_decode_kind: Final = msgspec.json.Decoder(_Kind).decode
_decode_control: Final = msgspec.json.Decoder(Control).decode


def read_control(value: bytes | None, error: RecordError) -> Control:
    """The control record that ``value`` is, which was no label because of ``error``.

    Raises:
        RecordError: ``unknown-control`` where the action is none of ours; ``error`` where it is no control
            record at all.
    """
    if error.reason != "wrong-kind" or decode(value, _decode_kind).kind != "control":
        raise error
    try:
        return checked(decode(value, _decode_control))
    except RecordError as wrong:
        if "`$.action`" in wrong.detail:
            raise RecordError("unknown-control", wrong.detail) from None
        raise
