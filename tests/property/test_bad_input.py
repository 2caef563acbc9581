"""Every field of every message made wrong in every way: refused by name, alike by every reader, alone and in
batches, and nothing that is right beside it is lost.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from itertools import chain
from typing import Any

import pytest

from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.kafka.decode_predictions import PredictionReader
from stream_ensemble.kafka.decode_requests import RequestReader
from stream_ensemble.learner.reading import FeedbackReader
from tests.bad_input import Bad, good_predictions, labels, predictions, requests
from tests.raw_records import GZIP, LOG_APPEND_TIME, batch, chunk, record

MEMBERS = ["a", "b"]
COMPILED = PredictionReader(MEMBERS, [0, 0], Classes(("x", "y", "z"), 1e-6))
PURE = PredictionReader(MEMBERS, [0, 0], Classes(("x", "y", "z"), 1e-6))
PURE.compiled = None
READERS = [COMPILED, PURE]
BAD = predictions()
GOOD = [each for member in MEMBERS for each in good_predictions(f"good-{member}", member)]


def written(bad: Bad, place: int = 0) -> bytes:
    headers = [(name.encode(), content) for name, content in bad.headers]
    return record(place, bad.key, bad.value, headers)


def refused_as_told(bad: Bad, refused: Sequence[Any]) -> list[str]:
    """What dead letters say of it, which names what is wrong."""
    said = [str(one.error) for one in refused]
    assert said, f"{bad.what}: taken for right"
    assert all(bad.names in each for each in said), f"{bad.what}: {said}"
    assert all(len(each) < 600 for each in said), f"{bad.what}: {max(map(len, said))} characters"
    return said


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.what[:60])
def test_a_prediction_is_refused_alone_by_every_reader(bad: Bad) -> None:
    outcomes = []
    for reader in READERS:
        part = chunk([batch(written(bad), 1, LOG_APPEND_TIME)])
        assert reader.few.read([(0, part)]) is None
        taken = reader.take([(0, part)])
        assert not taken.reads
        outcomes.append(refused_as_told(bad, taken.refused))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("codec", [0, GZIP])
def test_predictions_are_refused_in_a_batch_and_their_neighbours_are_used(codec: int) -> None:
    records, good, n = [], [], 0
    for bad, (value, headers) in zip(BAD, chain.from_iterable([GOOD] * len(BAD)), strict=False):
        names = [(name.encode(), content) for name, content in headers]
        key = b"good-a" if b"good-a" in value else b"good-b"
        records += [record(n, key, value, names), written(bad, n + 1)]
        good.append(n)
        n += 2
    payload = b"".join(records)
    if codec:
        payload = gzip.compress(payload)
    outcomes = []
    for reader in READERS:
        taken = reader.take([(0, chunk([batch(payload, n, codec | LOG_APPEND_TIME)]))])
        assert sorted(o for read in taken.reads for o in read.rows.offsets.tolist()) == good
        assert {one.offset for one in taken.refused} == {place + 1 for place in good}
        rows = sorted(
            (o, read.rows.ids[i], read.rows.member_of(i), read.rows.outputs[i].tobytes())
            for read in taken.reads
            for i, o in enumerate(read.rows.offsets.tolist())
        )
        outcomes.append((rows, sorted((one.offset, one.row, str(one.error)) for one in taken.refused)))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("bad", requests(), ids=lambda bad: bad.what[:60])
def test_a_request_is_refused(bad: Bad) -> None:
    columns = chunk([batch(written(bad), 1, LOG_APPEND_TIME)]).columns()
    read, refused = RequestReader(MEMBERS).read(0, columns)
    assert read is None, f"{bad.what}: taken for right"
    refused_as_told(bad, refused)


#: What the classes are the reader does not know; see tests/integration.
LABELS = [bad for bad in labels() if not bad.what.startswith(("label 3", "unknown class"))]


@pytest.mark.parametrize("bad", LABELS, ids=lambda bad: bad.what[:60])
def test_a_label_an_order_or_a_trial_is_refused(bad: Bad) -> None:
    columns = chunk([batch(written(bad), 1, LOG_APPEND_TIME)]).columns()
    found = FeedbackReader("feedback", 0, 1, Classes(("x", "y", "z"), 1e-6)).read(columns)
    assert not (found.here or found.elsewhere or found.controls or found.trials), f"{bad.what}: taken"
    refused_as_told(bad, found.refused)
