"""What stands in Redis of a cold segment: which partitions learned of it, and the order of what each has.

As text, ``PARTITION:GENERATION.EPOCH.SEQUENCE`` for each, a blank between: a few bytes, and a script can read
it. All of it can be read or none of it counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from stream_ensemble.errors import StateError
from stream_ensemble.stores.contributions import Key, Order

_ONE = r"\d{1,4}:\d{1,16}\.\d{1,16}\.\d{1,16}"
_ALL = re.compile(f"{_ONE}(?: {_ONE})*", re.ASCII)


def encode_mark(orders: Mapping[int, Order]) -> bytes:
    """The mark of a segment of which these partitions learned, at least one."""
    return " ".join(
        f"{partition}:{order.generation}.{order.epoch}.{order.sequence}"
        for partition, order in sorted(orders.items())
    ).encode()


def decode_mark(key: Key, raw: bytes) -> dict[int, Order]:
    """Read :func:`encode_mark` back.

    Raises:
        StateError: it is no such text.
    """
    text = raw.decode(errors="replace")
    if _ALL.fullmatch(text) is None:
        raise StateError(f"the mark of cold segment {tuple(key)} cannot be read: {text[:80]!r}")
    items = (item.partition(":") for item in text.split(" "))
    return {int(partition): Order(*map(int, numbers.split("."))) for partition, _, numbers in items}
