"""Which slot an open request has: the compiled table, or a dictionary where there is none."""

from __future__ import annotations

from collections import defaultdict
from itertools import count

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.compiled import AVAILABLE

if AVAILABLE:
    from stream_ensemble.compiled import slots


class PlainSlotTable(defaultdict[bytes, int]):
    """:class:`stream_ensemble.compiled.slots.SlotTable` in Python: an unknown id gets the next number."""

    def __init__(self) -> None:
        super().__init__(count().__next__)

    def fill(self, ids: list[bytes], numbers: NDArray[np.int64]) -> None:
        """The slots of N ids into ``numbers`` (shape N)."""
        numbers[:] = np.fromiter(map(self.__getitem__, ids), np.int64, len(ids))

    def forget(self, ids: list[bytes]) -> None:
        """Take ids out; unknown ones are passed over."""
        for request_id in ids:
            self.pop(request_id, None)


def slot_table() -> slots.SlotTable | PlainSlotTable:
    """An empty one, the compiled where it is there: .03 us a look-up instead of .13."""
    return slots.SlotTable() if AVAILABLE else PlainSlotTable()
