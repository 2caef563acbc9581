"""What stands in the feedback topic and is no label: control records, and what shadows said late."""

from __future__ import annotations

from typing import Final

import msgspec

from stream_ensemble.core.learning.control import checked
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.decode import decode
from stream_ensemble.messages import Control, Trial


class _Kind(msgspec.Struct):
    kind: str = ""


_decode_kind: Final = msgspec.json.Decoder(_Kind).decode
_decode_control: Final = msgspec.json.Decoder(Control).decode
_decode_trial: Final = msgspec.json.Decoder(Trial).decode


def read_control(value: bytes | None, error: RecordError) -> Control | Trial:
    """The control record or trial that ``value`` is, which was no label because of ``error``.

    Raises:
        RecordError: ``unknown-control`` where the action is none of ours; ``error`` where it is neither.
    """
    kind = decode(value, _decode_kind).kind if error.reason == "wrong-kind" else ""
    if kind == "trial":
        return decode(value, _decode_trial)
    if kind != "control":
        raise error
    try:
        return checked(decode(value, _decode_control))
    except RecordError as wrong:
        if "`$.action`" in wrong.detail:
            raise RecordError("unknown-control", wrong.detail) from None
        raise
