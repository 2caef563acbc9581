"""Decoding errors in words, the same for every form."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from stream_ensemble.errors import RecordError
from stream_ensemble.messages import UNREADABLE

T = TypeVar("T")
_SHOWN = 120


def decoded(value: bytes | None, decoder: Callable[[bytes], T]) -> T:
    """``value`` by ``decoder``, a typed JSON decoder of msgspec.

    Raises:
        RecordError: what is wrong and where.
    """
    if not value:
        raise RecordError("empty-value", "the record has no value")
    try:
        return decoder(value)
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from None
    except RecursionError:
        raise RecordError("not-json", "nested too deeply") from None
    except UNREADABLE as error:
        raise RecordError("not-json", f"{error}; the value starts with {short(value)}") from None


def short(text: str | bytes) -> str:
    """``text`` for an error's detail, cut where it is long."""
    shown = repr(text[:_SHOWN])
    return shown if len(text) <= _SHOWN else f"{shown}… ({len(text)} long)"


def _misfit(text: str) -> RecordError:
    path = text.rpartition(" - at `$.")[2].rstrip("`") if " - at `$." in text else ""
    if "missing required field" in text:
        return RecordError("missing-field", text)
    return RecordError({"version": "wrong-version", "kind": "wrong-kind"}.get(path, "wrong-field"), text)
