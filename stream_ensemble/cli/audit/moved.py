"""Records on the wrong partition, and the copies that must stand on the right ones. Pure."""

from __future__ import annotations

import numpy as np

from stream_ensemble.cli.audit.requests import numbered_pairs
from stream_ensemble.cli.audit.rows import Rows
from stream_ensemble.cli.audit.tally import Offence, Tally


def judge(moved: Rows) -> Tally:
    """Has each of the misplaced records of one bucket a copy?"""
    tally = Tally()
    copies, misplaced = moved[moved["copy"]], moved[~moved["copy"]]
    keys = [(rows["place"], rows["partition"].astype(np.uint64)) for rows in (copies, misplaced)]
    (of_copy, of_misplaced), _ = numbered_pairs(keys)
    for row in np.flatnonzero(~np.isin(of_misplaced, of_copy)).tolist():
        place, partition = int(misplaced["place"][row]), int(misplaced["partition"][row])
        tally.accuse(Offence.NOT_FORWARDED, partition, [place])
    return tally
