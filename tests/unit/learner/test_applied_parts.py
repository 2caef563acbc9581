"""What became of the label of a part, as it stands in the applied topic."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest
from aiokafka.structs import TopicPartition

from stream_ensemble.core.labels.keys import label_key
from stream_ensemble.core.labels.records import Verdict
from stream_ensemble.kafka.transactional_output import Outgoing
from stream_ensemble.learner.applied_topic import decode_applied, encode_all, is_trial

TP = TopicPartition("applied", 1)
LEARNED = Verdict(True, "2.5", 3, 0.5, 77, ("feedback", 1, 9, 2), 4)
PARKED = Verdict(False, "true", 0, 1.0, 78, ("feedback", 1, 10, 0), record=b"raw")


@dataclass
class Stored:
    """A record as it is read back."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


def read_back(sent: Outgoing) -> tuple[str, Verdict | None]:
    return decode_applied(Stored(sent.key, sent.value, list(sent.headers)))


@pytest.mark.parametrize("part", [None, "24h", "ü", "x" * 256])
@pytest.mark.parametrize("verdict", [LEARNED, PARKED, None])
def test_every_fate_of_every_part_is_read_back(part: str | None, verdict: Verdict | None) -> None:
    key = label_key("rü", part)
    [sent] = encode_all(TP, {key: verdict})
    assert not is_trial(sent)
    assert read_back(sent) == (key, verdict)


def test_parts_stand_beside_each_other_and_one_without_is_written_as_before() -> None:
    keys = [label_key("r", "1h"), label_key("r", "6h"), "r"]
    sent = encode_all(TP, dict.fromkeys(keys, LEARNED))
    assert len({one.key for one in sent}) == 3
    said = [msgspec.json.decode(one.value or b"") for one in sent]
    assert [each.get("part") for each in said] == ["1h", "6h", None]
    assert {each["request_id"] for each in said} == {"r"}
    assert (sent[2].key, "part" in said[2]) == (b"r", False)
