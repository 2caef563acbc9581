"""What the learner writes reads back as what it knew."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pytest
from aiokafka.structs import TopicPartition

from stream_ensemble.core.labels.records import Verdict
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.errors import StateError
from stream_ensemble.learner.applied_topic import decode_applied, encode_all, encode_applied
from stream_ensemble.learner.original import Original, pack, unpack
from stream_ensemble.stores.contributions import Key, Order
from stream_ensemble.stores.weights_topic import decode_weights, encode_key, encode_weights

APPLIED = TopicPartition("applied", 2)
ORIGIN = ("feedback", 2, 71, 0)


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: Any = ()


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict(True, "cat", 3, 2.5, 1234, ORIGIN, 4),
        Verdict(False, "dog", 0, 1.0, 99, ORIGIN, record=b"\x00\xffbytes"),
        None,
    ],
)
def test_a_verdict_reads_back(verdict: Verdict | None) -> None:
    written = encode_applied(APPLIED, "ü", verdict)
    assert written.tp == APPLIED
    assert decode_applied(Record(written.key, written.value, written.headers)) == ("ü", verdict)


def test_many_verdicts_are_written_as_one_by_one() -> None:
    labels = ["cat", "süß", '","appended":-1,"origin":["x",-1,-2,-3]', ""]
    topics = ["feedback", 'f","appended":-1,', "-2,-3]"]
    verdicts: dict[str, Verdict | None] = {"gone": None, "parked": Verdict(False, "dog", 0, 1.0, 9, ORIGIN)}
    for number, (label, topic) in enumerate(product(labels, topics)):
        for weight, generation in ((1.0, 0), (0.1 + 0.2, 7)):
            verdicts[f'r"{number}\\ü\n{weight}'] = Verdict(
                True, label, number % 3, weight, 10**12 + number, (topic, number, 2**40, number), generation
            )
    one_by_one = [encode_applied(APPLIED, request_id, verdict) for request_id, verdict in verdicts.items()]
    assert encode_all(APPLIED, verdicts) == one_by_one


@pytest.mark.parametrize("record", [Record(None, b"{}"), Record(b"r", b"{"), Record(b"r", b"{}")])
def test_an_applied_record_that_cannot_be_read_is_a_state_error(record: Record) -> None:
    with pytest.raises(StateError):
        decode_applied(record)


def test_an_original_reads_back_to_the_byte() -> None:
    original = Original(None, b"\xff\x00", [("traceparent", b"00-1"), ("empty", None)])
    assert unpack(pack(original)) == original
    with pytest.raises(StateError):
        unpack(b"\xc1")


def test_a_contribution_reads_back_to_the_bit() -> None:
    part = Contribution(
        ("a", "b"),
        {"R": np.array([0.1, -1e300]), "V": np.array([5e-324, 0.0])},
        {"B": np.array([3.0, 1.0])},
        9,
        2.5,
    )
    key, order = Key("class", "north"), Order(1, 2, 3)
    found_key, found_order, algorithm, found = decode_weights(encode_weights(key, 4, order, "ml_poly", part))
    assert (found_key, found_order, algorithm) == (key, order, "ml_poly")
    assert (found.members, found.n, found.clock) == (part.members, 9, 2.5)
    for name, array in {**part.sums, **part.maxima}.items():
        assert ({**found.sums, **found.maxima}[name] == array).all()


def test_a_weights_record_that_cannot_be_read_is_a_state_error() -> None:
    part = Contribution(("a",), {"R": np.array([1.0])})
    value = encode_weights(Key("class"), 0, Order(0, 1, 1), "ml_poly", part)
    for damaged in (
        b"",
        b"{}",
        value.replace(b"AAAAAAAA8D8=", b"AAAA"),
        value.replace(b"AAAAAAAA8D8=", b"!"),
    ):
        assert damaged != value
        with pytest.raises(StateError):
            decode_weights(damaged)


def test_every_task_and_segment_has_a_key_of_its_own() -> None:
    keys = [Key("class"), Key("class", "null"), Key("class", ""), Key("other"), Key("class", "other")]
    assert len({encode_key(key) for key in keys}) == len(keys)
