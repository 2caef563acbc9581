from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

COLUMNAR: Final[int]

def whole(records: bytes | memoryview, count: int) -> bool: ...

class SingleKernel:
    values: int
    def __init__(
        self, members: Sequence[str], numbers: NDArray[np.int64], values: int, headers: tuple[str, str, str]
    ) -> None: ...
    def read(
        self,
        records: Any,
        count: int,
        base_offset: int,
        base_time: int,
        time: int,
        first: int,
        row: int,
        offsets: NDArray[np.int64],
        appended: NDArray[np.int64],
        at: NDArray[np.int64],
        members: NDArray[np.int64],
        outputs: NDArray[np.float64],
        odd: NDArray[np.uint8],
        ids: list[bytes],
        segments: dict[int, str],
        traces: dict[int, bytes],
    ) -> int: ...

class AnswerKernel:
    def __init__(
        self, before: Callable[[tuple[bytes, ...], int, tuple[bytes, ...]], bytes | None], most: int
    ) -> None: ...
    def read(
        self, keys: list[bytes | None], values: list[bytes | None], lowest: float, highest: float
    ) -> tuple[list[str | None], list[bytes | None]]: ...

def read_labels(
    keys: list[bytes | None], values: list[bytes | None]
) -> tuple[
    list[bytes | None], list[str | None], list[int | str | None], list[int | None], list[float | None]
]: ...
