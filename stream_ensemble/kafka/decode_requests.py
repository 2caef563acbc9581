"""Reading the requests topic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from stream_ensemble.columnar.refusals import short
from stream_ensemble.core.join.records import NO_TIME, Requests
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.chunks import Columns
from stream_ensemble.kafka.decode import Refused, decode, forwarded_from, matching_key, traces_of
from stream_ensemble.messages import Forwarded, Request

_decode_request: Final = msgspec.json.Decoder(Request).decode


@dataclass(slots=True)
class ReadRequests:
    """Requests records that can be used, and the records they came from."""

    rows: Requests
    records: Sequence[Any]


class RequestReader:
    """Reads the requests topic of one ensemble."""

    def __init__(self, members: Sequence[str]) -> None:
        self._index = {name: k for k, name in enumerate(members)}

    def read(self, topic: int, columns: Columns) -> tuple[ReadRequests | None, list[Refused]]:
        """Usable rows (None when there are none) and what is refused. N records in."""
        good: list[tuple[int, bytes, Request, Forwarded | None]] = []
        refused = []
        for place, record in enumerate(columns.records):
            try:
                message = decode(record.value, _decode_request)
                request_id = matching_key(record.key, message.request_id)
                self._mask(message)
                good.append((place, request_id, message, forwarded_from(record)))
            except RecordError as error:
                refused.append(
                    Refused(record, int(columns.offsets[place]), int(columns.appended[place]), error, topic)
                )
        if not good:
            return None, refused
        places = np.array([place for place, *_ in good])
        appended = columns.appended[places]
        rows = Requests(
            topic,
            [request_id for _, request_id, *_ in good],
            np.array([_asked_at(m, moved) for *_, m, moved in good], np.int64),
            appended,
            columns.offsets[places],
            np.array([self._mask(m) for _, _, m, _ in good], np.uint64),
            np.array([m.deadline_ms or 0 for _, _, m, _ in good], np.int64),
            {row: m.segment for row, (_, _, m, _) in enumerate(good) if m.segment is not None},
            frozenset(row for row, (*_, moved) in enumerate(good) if moved is not None),
            traces_of([columns.records[place] for place in places.tolist()]),
        )
        return ReadRequests(rows, [columns.records[place] for place in places.tolist()]), refused

    def _mask(self, message: Request) -> int:
        mask = 0
        for i, name in enumerate(message.members or ()):
            if name not in self._index:
                raise RecordError("unknown-member", f"members[{i}]: {short(name)} is not in this ensemble")
            mask |= 1 << self._index[name]
        return mask


def _asked_at(message: Request, moved: Forwarded | None) -> int:
    if message.at is not None:
        return message.at
    return NO_TIME if moved is None else moved.appended
