"""Credit blocks: the weights a request was fused with, as they stand in the fused topic."""

from __future__ import annotations

import base64
import hashlib

import msgspec
import numpy as np

from stream_ensemble.core.learning.contribution import Vector
from stream_ensemble.errors import StateError
from stream_ensemble.messages import CreditBlock


def encode(
    algorithm: str, generation: int, n: int, members: tuple[str, ...], values: Vector
) -> tuple[str, CreditBlock]:
    """The block and its digest, 16 hex digits over all it says."""
    block = CreditBlock(
        algorithm=algorithm,
        generation=generation,
        n=n,
        members=members,
        values=base64.b64encode(np.ascontiguousarray(values, "<f8").tobytes()).decode(),
    )
    return digest_of(block), block


def digest_of(block: CreditBlock) -> str:
    """The digest a block must stand under."""
    return hashlib.blake2b(msgspec.json.encode(block), digest_size=8).hexdigest()


def decode(digest: str, block: CreditBlock) -> Vector:
    """The values of a block.

    Raises:
        StateError: the block is not the one this digest names, or cannot be read.
    """
    if digest_of(block) != digest:
        raise StateError(f"credit block {digest}: its content gives another digest; it was changed")
    try:
        raw = base64.b64decode(block.values, validate=True)
    except ValueError as error:
        raise StateError(f"credit block {digest}: not base64: {error}") from None
    if len(raw) % 8:
        raise StateError(f"credit block {digest}: {len(raw)} bytes are no whole number of float64")
    values = np.frombuffer(raw, "<f8").astype(np.float64)
    # Each may be finite and their sum not, by which they are divided.
    with np.errstate(over="ignore"):
        finite = np.isfinite(np.abs(values).sum())
    if not finite:
        raise StateError(f"credit block {digest}: its values do not add up to a finite number")
    return values
