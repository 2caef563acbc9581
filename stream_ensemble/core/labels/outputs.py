"""The outputs of an answer's members as they are kept: numbers side by side, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


class Outputs(Mapping[str, list[float]]):
    """Outputs by member.

    Args:
        members: their A names.
        raw: A x C little-endian float64.
    """

    __slots__ = ("members", "raw")

    def __init__(self, members: tuple[str, ...], raw: bytes) -> None:
        self.members = members
        self.raw = raw

    def __getitem__(self, member: str) -> list[float]:
        if member not in self.members:
            raise KeyError(member)
        output: list[float] = stacked([self])[0, self.members.index(member)].tolist()
        return output

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)


def stacked(rows: Sequence[Outputs]) -> NDArray[np.float64]:
    """Outputs of R answers of the same A members, R x A x C. Not to be changed."""
    numbers = np.frombuffer(b"".join([row.raw for row in rows]), "<f8")
    return numbers.reshape(len(rows), len(rows[0].members), -1)
