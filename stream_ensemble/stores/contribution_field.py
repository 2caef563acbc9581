"""Bytes of one field in Redis: 48 digits of order, 16 hex digits of checksum, then the value.

The order is decimal digits of fixed width, so that the compare-and-set script can compare it as text in any
locale. The checksum covers order, key, partition and value: a field copied to another place is refused too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from stream_ensemble.errors import StateError
from stream_ensemble.stores.cold_mark import decode_mark
from stream_ensemble.stores.contributions import MARK, Key, Marker, Order, Snapshot, Stored

DIGITS = 16
ORDER_BYTES = 3 * DIGITS
_HEAD = ORDER_BYTES + 16
_LARGEST = 10**DIGITS - 1
_COMPLETE, _PARTIAL = b"complete", b"partial"


def encode_order(order: Order) -> bytes:
    """48 digits that compare as text in the same way as the three numbers."""
    if not all(0 <= number <= _LARGEST for number in order):
        raise StateError(f"order {tuple(order)} is outside 0..{_LARGEST}")
    return b"%016d%016d%016d" % order


def decode_order(digits: bytes) -> Order:
    """Read :func:`encode_order` back."""
    return Order(*(int(digits[at : at + DIGITS]) for at in range(0, ORDER_BYTES, DIGITS)))


def encode_field(key: Key | None, partition: int, order: Order, value: bytes) -> bytes:
    """The bytes of one field; ``key`` None is the hash of markers."""
    digits = encode_order(order)
    return digits + _checksum(key, partition, digits, value) + value


def decode_field(key: Key | None, partition: int, raw: bytes) -> Stored:
    """The order and value of one field.

    Raises:
        StateError: the field is too short, its order is not digits, or the checksum does not fit.
    """
    where = f"field {partition} of {'the markers' if key is None else tuple(key)}"
    if len(raw) < _HEAD:
        raise StateError(f"{where}: {len(raw)} bytes, at least {_HEAD} expected")
    digits, checksum, value = raw[:ORDER_BYTES], raw[ORDER_BYTES:_HEAD], raw[_HEAD:]
    if not digits.isdigit():
        raise StateError(f"{where}: the order is not {ORDER_BYTES} digits")
    if checksum != _checksum(key, partition, digits, value):
        raise StateError(f"{where}: the checksum does not fit the value")
    return Stored(decode_order(digits), value)


def encode_marker(partition: int, marker: Marker) -> bytes:
    """The bytes of a marker in the hash of markers."""
    return encode_field(None, partition, marker.order, _COMPLETE if marker.complete else _PARTIAL)


def decode_marker(partition: int, raw: bytes) -> Marker:
    """The marker of one partition; raises ``StateError`` like ``decode_field``."""
    stored = decode_field(None, partition, raw)
    if stored.value not in (_COMPLETE, _PARTIAL):
        raise StateError(f"marker of partition {partition}: neither complete nor partial")
    return Marker(stored.order, stored.value == _COMPLETE)


def order_digits(raw: bytes) -> bytes:
    """The order of a field as it compares in the compare-and-set: empty, the lowest, if there is none."""
    digits = raw[:ORDER_BYTES]
    return digits if len(digits) == ORDER_BYTES and digits.isdigit() else b""


def decode_snapshot(
    hashes: Mapping[Key | None, Mapping[int, bytes]], marks: Mapping[Key, bytes] | None = None
) -> Snapshot:
    """Raw fields by key (None: the markers) and partition, decoded; what is damaged is set aside.

    Args:
        marks: of cold segments.
    """
    fields: dict[Key, dict[int, Stored]] = {key: {} for key in hashes if key is not None}
    markers: dict[int, Marker] = {}
    damaged: dict[tuple[Key | None, int], StateError] = {}
    for key, raws in hashes.items():
        for partition, raw in raws.items():
            try:
                if key is None:
                    markers[partition] = decode_marker(partition, raw)
                else:
                    fields[key][partition] = decode_field(key, partition, raw)
            except StateError as error:
                damaged[key, partition] = error
    cold: dict[Key, dict[int, Order]] = {}
    for marked, raw in (marks or {}).items():
        try:
            cold[marked] = decode_mark(marked, raw)
        except StateError as error:
            damaged[marked, MARK] = error
    return Snapshot(fields, markers, damaged, cold=cold)


def _checksum(key: Key | None, partition: int, digits: bytes, value: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    digest.update(repr((None if key is None else tuple(key), partition)).encode())
    digest.update(digits)
    digest.update(value)
    return digest.hexdigest().encode()
