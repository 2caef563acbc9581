"""Which rows of a columnar record cannot be used, whatever its kind: a bad row spoils only itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.columnar.refusals import short
from stream_ensemble.core.join.records import NO_TIME
from stream_ensemble.errors import RecordError

LATEST_TIME = 253_402_300_799_999
LONGEST_ID = 256
LONGEST_NAME = 128

T = TypeVar("T")
Wrong = dict[int, RecordError]


def taken(sparse: Mapping[int, T], rows: Sequence[int]) -> dict[int, T]:
    """What ``sparse`` says of ``rows``, by their place in ``rows``."""
    return {place: sparse[row] for place, row in enumerate(rows) if row in sparse} if sparse else {}


def wrong_ids(ids: list[bytes]) -> Wrong:
    """Request ids that are empty, too long or no UTF-8, by row."""
    lengths = set(map(len, ids))
    if min(lengths) > 0 and max(lengths) <= LONGEST_ID and b"".join(ids).isascii():
        return {}
    return _wrong_texts("request_id", enumerate(ids), LONGEST_ID)


def wrong_texts(name: str, texts: Mapping[int, bytes], longest: int | None) -> Wrong:
    """Texts that are no UTF-8 or longer than ``longest`` characters, by row."""
    return _wrong_texts(name, texts.items(), longest)


def wrong_times(at: NDArray[np.int64]) -> Wrong:
    """Times that are neither ``NO_TIME`` nor within the years 1970 to 9999, by row."""
    return wrong_numbers("at", at, (at >= NO_TIME) & (at <= LATEST_TIME), "milliseconds since the epoch")


def wrong_numbers(name: str, values: NDArray[Any], right: NDArray[np.bool_], expected: str) -> Wrong:
    """Numbers that are not ``right``, by row."""
    if right.all():
        return {}
    return {
        row: RecordError("wrong-field", f"{name}: {values[row].item()!r}, expected {expected}")
        for row in np.flatnonzero(~right).tolist()
    }


def _wrong_texts(name: str, texts: Iterable[tuple[int, bytes]], longest: int | None) -> Wrong:
    wrong = {}
    for row, text in texts:
        problem = _problem(text, longest)
        if problem:
            wrong[row] = RecordError("wrong-field", f"{name}: {problem}: {short(text)}")
    return wrong


def _problem(text: bytes, longest: int | None) -> str:
    try:
        length = len(text.decode())
    except UnicodeDecodeError:
        return "not valid UTF-8"
    if not length:
        return "empty"
    return f"longer than {longest} characters" if longest is not None and length > longest else ""
