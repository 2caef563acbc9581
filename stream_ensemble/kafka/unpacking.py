"""What a compressed record batch holds, with a bound on how much that may be.

A broker looks through a compressed batch without keeping it, and by other libraries: a few KB that come to
gigabytes pass it, and so do some ends and checksums that are refused here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from struct import Struct
from typing import Any, Final

import cramjam

from stream_ensemble.errors import RecordError

#: Most bytes that the batches of one fetch may come to: a fetch has some MB, and JSON shrinks to a tenth.
MOST: Final = 256 << 20
#: Room for the first attempt: so many bytes, or so many times the packed ones.
_ROOM: Final = 1 << 20
_USUAL: Final = 32
_XERIAL: Final = b"\x82SNAPPY\0" + Struct(">ii").pack(1, 1)
_SIZE: Final = Struct(">i")
_GZIP: Final = 31  # zlib's word for "with gzip's header"

Bytes = memoryview | bytes


def unreadable(why: str) -> RecordError:
    """The error of a batch whose records cannot be got at."""
    return RecordError("unreadable-batch", why)


def unpacked(codec: int, packed: memoryview, most: int = MOST) -> Bytes:
    """The bytes of all records of a batch.

    Args:
        codec: its number in the batch's attributes; 0: not compressed.
        most: what comes to more is refused.

    Raises:
        RecordError: ``unreadable-batch``: unknown, damaged, or too much.
    """
    if not codec:
        return packed
    if codec not in _UNPACK:
        raise unreadable(f"no compression has the number {codec}")
    name, unpack = _UNPACK[codec]
    try:
        return unpack(packed.tobytes(), most)
    except (cramjam.DecompressionError, zlib.error, ValueError) as error:
        raise unreadable(f"{name}: {error}") from None


def _too_much() -> RecordError:
    return unreadable(
        f"with those before it in its fetch it comes to more than {MOST:,} bytes unpacked, "
        "which no batch of messages does"
    )


def _gunzipped(packed: bytes, most: int) -> bytes:
    parts: list[bytes] = []
    left = most
    while packed:
        stream = zlib.decompressobj(_GZIP)
        parts.append(stream.decompress(packed, left + 1))
        left -= len(parts[-1])
        if left < 0:
            raise _too_much()
        if not stream.eof:
            raise ValueError("it ends too early")
        packed = stream.unused_data.lstrip(b"\0")
    return b"".join(parts)


def _unsnapped(packed: bytes, most: int) -> Bytes:
    blocks = list(_xerial_blocks(packed)) if packed.startswith(_XERIAL) else [packed]
    ends = [0]
    for block in blocks:
        ends.append(ends[-1] + int(cramjam.snappy.decompress_raw_len(block)))
        if ends[-1] > most:
            raise _too_much()
    found = memoryview(bytearray(ends[-1]))
    for block, begin, end in zip(blocks, ends, ends[1:], strict=False):
        cramjam.snappy.decompress_raw_into(block, found[begin:end])
    return found


def _xerial_blocks(packed: bytes) -> list[bytes]:
    """The blocks that Java's snappy writes, each behind its length."""
    blocks = []
    begin = len(_XERIAL)
    while begin < len(packed):
        if begin + _SIZE.size > len(packed):
            raise ValueError("there are bytes behind its last block")
        size = _SIZE.unpack_from(packed, begin)[0]
        begin += _SIZE.size
        if not 0 <= size <= len(packed) - begin:
            raise ValueError(f"a block of {size} bytes where {len(packed) - begin} are left")
        blocks.append(packed[begin : begin + size])
        begin += size
    return blocks


def _into_room(decompress_into: Callable[[bytes, Any], int]) -> Callable[[bytes, int], Bytes]:
    """The libraries that stop at the end of a buffer, with buffers that grow until they are large enough."""

    def unpack(packed: bytes, most: int) -> Bytes:
        room = min(most, max(_ROOM, _USUAL * len(packed)))
        while True:
            found = bytearray(room)
            try:
                return memoryview(found)[: decompress_into(packed, found)]
            except cramjam.DecompressionError as error:
                if "whole buffer" not in str(error):
                    raise
            if room == most:
                raise _too_much()
            room = min(most, 8 * room)

    return unpack


_UNPACK: Final[dict[int, tuple[str, Callable[[bytes, int], Bytes]]]] = {
    1: ("gzip", _gunzipped),
    2: ("snappy", _unsnapped),
    3: ("lz4", _into_room(cramjam.lz4.decompress_into)),
    4: ("zstd", _into_room(cramjam.zstd.decompress_into)),
}
