"""Reading predictions topics, in which single and columnar records mix freely."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from stream_ensemble import compiled
from stream_ensemble.columnar.forms import has_form
from stream_ensemble.core.tasks.domain import Domain
from stream_ensemble.kafka.chunks import Chunk, Columns
from stream_ensemble.kafka.decode import Expected, Read, Refused
from stream_ensemble.kafka.decode_columns import ColumnarReader
from stream_ensemble.kafka.decode_compiled import CompiledReader, Taken
from stream_ensemble.kafka.decode_few import FewReader
from stream_ensemble.kafka.decode_singles import SingleReader

_headers = attrgetter("headers")


class PredictionReader:
    """Reads predictions of one ensemble.

    Args:
        members: names, in the order of the settings.
        topic_of: input topic index by member.
        domain: what their outputs may be.
    """

    def __init__(self, members: Sequence[str], topic_of: Sequence[int], domain: Domain) -> None:
        index = {name: k for k, name in enumerate(members)}
        expected = Expected(index, np.array(topic_of, np.int64), domain)
        self.singles = SingleReader(expected)
        self.columnar = ColumnarReader(expected)
        self.few = FewReader(expected)
        self.compiled = CompiledReader(expected, self.singles) if compiled.AVAILABLE else None

    def take(self, parts: Sequence[tuple[int, Chunk]]) -> Taken:
        """What the chunks of some input topics come to."""
        taken = None if self.compiled is None else self.compiled.read(parts)
        if taken is not None:
            return taken
        columns = [(topic, chunk.columns()) for topic, chunk in parts]
        newest = [int(part.appended.max()) if part.records else -1 for _, part in columns]
        return Taken(*self.read([part for part in columns if part[1].records]), newest)

    def read(self, parts: Sequence[tuple[int, Columns]]) -> tuple[list[Read], list[Refused]]:
        """What can be used of the records of some input topics, and what is refused.

        A member's predictions stay in log order, whatever form each has.
        """
        plain = []
        reads: list[Read] = []
        refused: list[Refused] = []
        for topic, columns in parts:
            if not any(map(has_form, filter(_headers, columns.records))):
                plain.append((topic, columns))
                continue
            for is_batch, run in _runs(columns):
                reader = self.columnar if is_batch else self.singles
                more, bad = reader.read(topic, run)
                reads += more
                refused += bad
        if plain:
            more, bad = self.singles.read(*_together(plain))
            reads += more
            refused += bad
        return reads, refused


def _runs(columns: Columns) -> Iterator[tuple[bool, Columns]]:
    """Records of one form that follow each other."""
    begin = 0
    for is_batch, run in groupby(map(has_form, columns.records)):
        end = begin + len(list(run))
        records, offsets, appended = columns
        yield is_batch, Columns(records[begin:end], offsets[begin:end], appended[begin:end])
        begin = end


def _together(parts: Sequence[tuple[int, Columns]]) -> tuple[int | NDArray[np.int64], Columns]:
    """The records of several topics as one list, with the topic of each; one number for a single topic."""
    if len(parts) == 1:
        return parts[0]
    topics = np.repeat([topic for topic, _ in parts], [len(columns.records) for _, columns in parts])
    return topics, Columns(
        list(chain.from_iterable(columns.records for _, columns in parts)),
        np.concatenate([columns.offsets for _, columns in parts]),
        np.concatenate([columns.appended for _, columns in parts]),
    )
