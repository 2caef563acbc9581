"""Label keys: what a verdict is kept by. A request id where labels are about the whole; else id and part.

A key is text, so that the many that are an id alone cost nothing. Between id and part stands a lone
surrogate, which no UTF-8 can hold and so no id; as bytes it is one that stands in no UTF-8 either.
"""

from __future__ import annotations

_BETWEEN = "\udcff"
#: The same as bytes.
BETWEEN = b"\xff"


def label_key(request_id: str, part: str | None) -> str:
    """The key of a label."""
    return request_id if part is None else f"{request_id}{_BETWEEN}{part}"


def has_part(key: str) -> bool:
    """Is it of a part?"""
    return _BETWEEN in key


def taken_apart(key: str) -> tuple[str, str | None]:
    """Request id and part."""
    request_id, between, part = key.partition(_BETWEEN)
    return request_id, part if between else None


def to_bytes(key: str) -> bytes:
    """The key as it is stored and sent."""
    return key.encode("utf-8", "surrogateescape")


def from_bytes(raw: bytes) -> str:
    """Read :func:`to_bytes` back.

    Raises:
        UnicodeDecodeError: it is none.
    """
    request_id, between, part = raw.partition(BETWEEN)
    return label_key(request_id.decode(), part.decode() if between else None)
