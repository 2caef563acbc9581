"""Predictions as the bytes of records: JSON for many rows at once, and columns by the SDK's packing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.job import ID_BYTES, SCALE
from stream_ensemble.columnar.predictions import PredictionBatch, pack
from stream_ensemble.columnar.reading import rows_of_bytes

_DECIMALS = 4
#: ``0.1234``
_NUMBER_BYTES = 2 + _DECIMALS


def id_list(ids: NDArray[np.uint8]) -> list[bytes]:
    """N ids as bytes objects. Shape: ``N x 32``."""
    return rows_of_bytes(ids.tobytes(), ID_BYTES)


def json_values(ids: NDArray[np.uint8], member: str, parts: NDArray[np.uint16], at: int) -> list[bytes]:
    """N predictions of one member, all of one width, so that NumPy writes them.

    Shapes: ids ``N x 32``, parts ``N x C``.
    """
    head = b'{"version":1,"kind":"prediction","request_id":"'
    middle = b'","member":"%b","at":%d,"output":[' % (member.encode(), at)
    n, C = parts.shape
    numbers = b",".join([b"0.0000"] * C)
    template = head + bytes(ID_BYTES) + middle + numbers + b"]}"
    block = np.tile(np.frombuffer(template, np.uint8), (n, 1))
    block[:, len(head) : len(head) + ID_BYTES] = ids
    begin = len(head) + ID_BYTES + len(middle)
    for c in range(C):
        _write_number(block[:, begin + c * (_NUMBER_BYTES + 1) :], parts[:, c])
    return rows_of_bytes(block.tobytes(), len(template))


def _write_number(block: NDArray[np.uint8], parts: NDArray[np.uint16]) -> None:
    """``parts`` of ``SCALE`` over the first bytes of each row, which are ``0.0000``."""
    places = [0, *range(2, 2 + _DECIMALS)]
    scale = SCALE
    for place in places:
        block[:, place] += (parts // scale % 10).astype(np.uint8)
        scale //= 10


def columnar_value(ids: NDArray[np.uint8], member: str, parts: NDArray[np.uint16], at: int) -> bytes:
    """The same predictions in one columnar record, as a publisher of float32 outputs writes it."""
    outputs = (parts / SCALE).astype(np.float32)
    return pack(PredictionBatch(member, id_list(ids), outputs, np.full(len(ids), at, np.int64)))
