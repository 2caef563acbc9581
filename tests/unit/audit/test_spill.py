"""Rows on disk are the rows that went in, an id in one bucket, and what was judged together stays so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stream_ensemble.cli.audit.requests import judge
from stream_ensemble.cli.audit.rows import (
    LATE,
    NOWHERE,
    TABLES,
    checksum,
    hashes,
    parts,
    place,
    table,
    topics_of,
)
from stream_ensemble.cli.audit.spill import BUCKETS, Buckets
from stream_ensemble.cli.audit.tally import Offence, Tally
from tests.unit.audit.ledgers import TERMS, Ledger


@pytest.mark.parametrize("kept_bytes", [1, 3000, 1 << 30])
def test_every_row_comes_back_once_and_an_id_in_one_bucket(tmp_path: Path, kept_bytes: int) -> None:
    buckets = Buckets(tmp_path, {"late": LATE}, kept_bytes=kept_bytes)
    numbers = np.arange(1000)
    for some in np.split(numbers, 20):
        ids = hashes([b"%d" % (n % 300) for n in some.tolist()])
        buckets.add("late", table(LATE, ids, place=some.astype(np.uint64)))
    found = [bucket["late"] for bucket in buckets.all()]
    assert sorted(np.concatenate(found)["place"].tolist()) == numbers.tolist()
    seen: set[int] = set()
    for rows in found:
        here = set(rows["a"].tolist())
        assert not here & seen
        seen |= here
    assert len(found) == (1 if kept_bytes > 1 << 20 else BUCKETS)
    assert list(tmp_path.iterdir()) == [], "files go with their bucket"


def test_buckets_on_disk_are_judged_as_one_in_memory(tmp_path: Path) -> None:
    it = Ledger()
    for n in range(400):
        it.whole(f"r{n}")
    it.predict("lost", 1)
    it.fuse("r7", {})
    alone = judge(it.bucket(), TERMS)
    buckets = Buckets(tmp_path, TABLES, kept_bytes=4096)
    for name, rows in it.bucket().items():
        for some in np.array_split(rows, 7):
            buckets.add(name, some)
    together = Tally()
    for bucket in buckets.all():
        together.add(judge(bucket, TERMS))
    assert together.counts == +alone.counts
    assert together.offences == alone.offences == {Offence.MISSING: 1, Offence.TWICE: 1}
    assert set(together.offenders) == set(alone.offenders)


def test_places_name_topic_offset_and_row_and_compare_as_offsets() -> None:
    for some in ((0, 0, 0), (65, 2**41 - 1, 65_535), (3, 12, 7)):
        assert parts(place(*some)) == some
    assert place(1, 5, 9) < place(1, 6, 0) < place(2, 0, 0) < NOWHERE
    assert place(-1, 0) == place(200, 0) == place(0, 2**41) == place(0, 0, 65_536) == NOWHERE
    assert topics_of(np.array([place(5, 1), place(0, 9)], np.uint64)).tolist() == [5, 0]


def test_checksums_are_of_the_numbers_and_not_of_their_form() -> None:
    single = np.array([0.1, 0.9, 0.0], np.float32)
    assert checksum(single.tolist()) == checksum(single.astype(np.float64).tolist())
    assert checksum([0.1, 0.9, -0.0]) == checksum([0.1, 0.9, 0.0])
    assert checksum([0.1, 0.9]) != checksum([0.9, 0.1])
    assert checksum([0.1]) != checksum([float(np.float32(0.1))])
