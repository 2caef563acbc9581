"""What is read back from the fused topic, and what stands there that no fuser wrote."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import pytest

from stream_ensemble.core.join.state import JoinRules, PartitionJoin
from stream_ensemble.fuser.history import FusedHistory
from stream_ensemble.kafka.chunks import Columns
from stream_ensemble.messages import FORMAT_COLUMNS, HEADER_FORMAT


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    offset: int = 0


def read_back(*records: Record) -> PartitionJoin:
    join = PartitionJoin(JoinRules(1, 2, (0,), 1, 0, 1, 10, 1, False, 10**9, 10**6))
    n = len(records)
    columns = Columns(list(records), np.arange(n), np.full(n, 100))
    FusedHistory(join, {"t": 0}, [5]).note(columns, replay_from=0)
    return join


def fused(request_id: str, offset: int, cause: str | None = None) -> Record:
    value = {"request_id": request_id, "sources": {"a": ["t", 0, offset, 2]}}
    if cause is not None:
        value["cause"] = cause
    return Record(request_id.encode(), json.dumps(value, separators=(",", ":")).encode(), [])


def test_it_knows_what_ended_what_early_and_which_predictions_will_be_read_again() -> None:
    join = read_back(fused("r", 4), fused("s", 7, "early"))
    assert join.closed.contains([b"r", b"s", b"t"]).tolist() == [True, True, False]
    assert join.closed_early.contains([b"r", b"s"]).tolist() == [False, True]
    assert join.used_before == {0: {(7, 2)}}


@pytest.mark.parametrize("value", [None, b"", b"{", b'{"sources":{"\xff":1}}', b'{"x":' + b"[" * 5000])
def test_nonsense_in_the_fused_topic_stops_nobody(value: bytes | None) -> None:
    columnar = Record(None, value, [(HEADER_FORMAT, FORMAT_COLUMNS)])
    join = read_back(Record(b"q", value, []), columnar, fused("r", 9))
    assert join.closed.contains([b"q", b"r"]).tolist() == [True, True]
    assert join.used_before == {0: {(9, 2)}}
