"""Rows of one partition in buckets by id, on disk as soon as they are many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stream_ensemble.cli.audit.rows import Rows

#: All rows of an id are in one bucket, and one bucket at a time is judged.
BUCKETS = 64
_BUCKET_AT = np.uint64(58)
#: Bytes of rows kept in memory before they go to disk.
KEPT_BYTES = 32 << 20

Bucket = dict[str, Rows]


class Buckets:
    """Tables of rows that have the hash of an id as fields ``a`` and ``b``.

    Args:
        folder: an empty one for the files.
        tables: the dtype of each table by name.
        kept_bytes: of all tables together, before they are written out.
    """

    def __init__(
        self, folder: Path, tables: Mapping[str, np.dtype[Any]], *, kept_bytes: int = KEPT_BYTES
    ) -> None:
        self._folder = folder
        self._tables = tables
        self._kept_bytes = kept_bytes
        self._kept: dict[str, list[Rows]] = {name: [] for name in tables}
        self._bytes = 0
        self._spilled = False

    def add(self, table: str, rows: Rows) -> None:
        """Take rows in; they are not copied."""
        if not len(rows):
            return
        self._kept[table].append(rows)
        self._bytes += rows.nbytes
        if self._bytes > self._kept_bytes:
            self._write_out()

    def all(self) -> Iterator[Bucket]:
        """Each bucket that holds anything, once; its files are removed."""
        if not self._spilled:
            yield {name: self._together(name) for name in self._tables}
            return
        self._write_out()
        for number in range(BUCKETS):
            yield {name: self._read(name, number) for name in self._tables}

    def _together(self, name: str) -> Rows:
        kept, self._kept[name] = self._kept[name], []
        return np.concatenate(kept) if kept else np.empty(0, self._tables[name])

    def _write_out(self) -> None:
        self._spilled = True
        self._bytes = 0
        for name in self._tables:
            rows = self._together(name)
            buckets = rows["a"] >> _BUCKET_AT
            order = np.argsort(buckets, kind="stable")
            ends = np.searchsorted(buckets[order], np.arange(BUCKETS + 1, dtype=np.uint64))
            for number in range(BUCKETS):
                some = order[ends[number] : ends[number + 1]]
                if len(some):
                    with self._file(name, number).open("ab") as file:
                        file.write(rows[some].tobytes())

    def _read(self, name: str, number: int) -> Rows:
        file = self._file(name, number)
        if not file.exists():
            return np.empty(0, self._tables[name])
        rows = np.fromfile(file, self._tables[name])
        file.unlink()
        return rows

    def _file(self, name: str, number: int) -> Path:
        return self._folder / f"{name}-{number:02d}"
