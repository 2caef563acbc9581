"""Weights kept in a file: what ``weights show --json`` printed, or just a number for each member."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from stream_ensemble.core.learning import credit_block
from stream_ensemble.errors import SettingsError, StateError
from stream_ensemble.messages import UNREADABLE, Calibration, CreditBlock, PinnedWeights


class Kept(msgspec.Struct):
    """Weights by member, and, from ``weights show``, the credit they are made of and what their outputs were
    calibrated with.
    """

    weights: dict[str, float]
    credit: CreditBlock | None = None
    n: int | None = None
    calibration: Calibration | None = None

    @property
    def pinned(self) -> PinnedWeights:
        """The same to be pinned."""
        return PinnedWeights(weights=self.weights, credit=self.credit, calibration=self.calibration)


def read_kept(path: Path) -> Kept:
    """The weights in a file.

    Raises:
        SettingsError: it cannot be read, or holds no weights.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    try:
        kept = _decoded(raw)
    except UNREADABLE as error:
        raise SettingsError(
            f'{path}: {error}; expected what `weights show --json` prints, or {{"MEMBER": WEIGHT, ...}}'
        ) from None
    wrong = [name for name, weight in kept.weights.items() if not 0 <= weight < math.inf]
    if wrong or not any(kept.weights.values()):
        raise SettingsError(f"{path}: expected weights of 0 or more, at least one above 0")
    if kept.credit is not None:
        try:
            credit_block.decode(credit_block.digest_of(kept.credit), kept.credit)
        except StateError as error:
            raise SettingsError(f"{path}: {error}") from None
    return kept


def _decoded(raw: bytes) -> Kept:
    found = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    if "weights" in found:
        return msgspec.json.decode(raw, type=Kept)
    return Kept(msgspec.json.decode(raw, type=dict[str, float]))
