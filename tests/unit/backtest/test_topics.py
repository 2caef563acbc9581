"""Recorded topics as a stream: fused and feedback records, one in each line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from stream_ensemble.cli.backtest.files import read
from stream_ensemble.cli.backtest.recording import checked
from stream_ensemble.errors import SettingsError
from stream_ensemble.messages import Feedback, Fused, PartFeedback, WeightsVersion


def _fused(request_id: str, components: dict[str, list[float]], label: str, output: list[float]) -> Fused:
    return Fused(
        version=1,
        kind="fused",
        request_id=request_id,
        status="complete",
        at=0,
        segment="north",
        output=output,
        label=label,
        components=components,
        sources={},
        weights_version=WeightsVersion(generation=0, n=0, digest=""),
        config="",
    )


def _label(request_id: str, label: Any, revision: int = 0) -> Feedback:
    return Feedback(version=1, kind="feedback", request_id=request_id, label=label, revision=revision)


ANSWERS = [
    _fused("r1", {"b": [0.9, 0.1], "a": [0.7, 0.3]}, "cat", [0.8, 0.2]),
    _fused("r2", {"a": [0.2, 0.8]}, "dog", [0.2, 0.8]),
    _fused("r3", {"a": [0.5, 0.5], "b": [0.4, 0.6]}, "dog", [0.45, 0.55]),
]


def _write(folder: Path, *messages: Fused | Feedback | PartFeedback) -> Path:
    path = folder / "topics.jsonl"
    path.write_bytes(b"\n".join(msgspec.json.encode(message) for message in messages) + b"\n")
    return path


def test_requests_with_a_label_in_the_order_they_were_answered(tmp_path: Path) -> None:
    raw = read(_write(tmp_path, _label("r3", "dog"), *ANSWERS, _label("r1", 0), ANSWERS[0]))
    assert raw.names == ("a", "b")
    np.testing.assert_array_equal(raw.P, [[[0.7, 0.3], [0.9, 0.1]], [[0.5, 0.5], [0.4, 0.6]]])
    assert raw.y.tolist() == [0, 1]
    assert raw.columns is not None
    assert raw.columns["segment"].tolist() == ["north", "north"]


def test_a_member_that_did_not_answer_is_asleep(tmp_path: Path) -> None:
    raw = read(_write(tmp_path, *ANSWERS, _label("r1", 0), _label("r2", 1)))
    assert np.isnan(raw.P[1, 1]).all()


def test_what_was_said_in_shadow_is_left_out(tmp_path: Path) -> None:
    said = {"s": [0.0, 1.0], **ANSWERS[0].components}
    answer = msgspec.structs.replace(ANSWERS[0], components=said, shadow=("s",))
    file = _write(tmp_path, answer, *ANSWERS[1:], _label("r1", "cat"))
    trial = {"version": 1, "kind": "trial", "request_id": "r1", "member": "s", "output": [0.5, 0.5]}
    with file.open("ab") as more:
        more.write(msgspec.json.encode(trial | {"appended": 1, "source": ["p", 0, 0, 0]}) + b"\n")
    raw = read(file)
    assert raw.names == ("a", "b")
    np.testing.assert_array_equal(raw.P, [[[0.7, 0.3], [0.9, 0.1]]])


def test_control_records_among_the_labels_are_left_out(tmp_path: Path) -> None:
    file = _write(tmp_path, *ANSWERS, _label("r1", "cat"))
    with file.open("a") as more:
        more.write('{"version": 1, "kind": "control", "number": 1, "id": "x", "action": "unpin"}\n')
    assert len(read(file).y) == 1


def test_the_label_of_the_highest_revision_counts_then_the_last(tmp_path: Path) -> None:
    labels = [_label("r1", 1, revision=2), _label("r1", 0, revision=1), _label("r2", 0), _label("r2", 1)]
    assert read(_write(tmp_path, *ANSWERS, *labels)).y.tolist() == [1, 1]


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no request has both a fused record and a label"):
        read(_write(tmp_path, *ANSWERS))
    with pytest.raises(
        SettingsError, match="request r1: the label 'bird' is a class that no fused record names"
    ):
        read(_write(tmp_path, *ANSWERS, _label("r1", "bird")))
    path = _write(tmp_path, *ANSWERS)
    path.write_bytes(path.read_bytes() + b'{"kind": "weights", "version": 1}\n')
    with pytest.raises(SettingsError, match="line 4 is no fused or feedback record"):
        read(path)


def _part(request_id: str, part: int | str, label: bool | float, revision: int = 0) -> PartFeedback:
    return PartFeedback(
        version=1, kind="feedback", request_id=request_id, part=part, label=label, revision=revision
    )


AHEAD = [
    _fused("r1", {"a": [1.0, 2.0], "b": [3.0, 4.0]}, "", [2.0, 3.0]),
    _fused("r2", {"b": [-5.0, 6.5]}, "", [-5.0, 6.5]),
]


def test_each_labelled_part_is_a_row_with_what_was_said_of_it(tmp_path: Path) -> None:
    labels = [_part("r2", "6h", 7.0), _part("r1", 1, 9.0), _part("r1", "6h", 2.5, 1), _part("r1", "1h", 0.5)]
    raw = read(_write(tmp_path, *AHEAD, *labels), ["1h", "6h"])
    assert raw.names == ("a", "b")
    np.testing.assert_array_equal(raw.P, [[1.0, 3.0], [2.0, 4.0], [np.nan, 6.5]])
    assert raw.y.tolist() == [0.5, 2.5, 7.0]
    assert raw.columns is not None
    assert raw.columns["part"].tolist() == [0, 1, 1]
    assert raw.columns["segment"].tolist() == ["north"] * 3


def test_yes_and_no_are_classes(tmp_path: Path) -> None:
    answer = _fused("r", {"a": [0.25, 0.5]}, "", [0.25, 0.5])
    raw = read(_write(tmp_path, answer, _part("r", 0, True), _part("r", 1, False)))
    recording, loss = checked(raw, "log", None)
    assert recording.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(recording.outputs[:, 0], [[0.75, 0.25], [0.5, 0.5]])
    assert loss.name == "log"


@pytest.mark.parametrize(
    ("labels", "parts", "said"),
    [
        ([_part("r1", "6h", 1.0)], [], "the part '6h', whose place in an output is not known: say --parts"),
        ([_part("r1", "6h", 1.0)], ["1h"], "--parts names 1h"),
        ([_part("r1", 2, 1.0)], [], "request r1: a label is about part 2, a gave 2 numbers"),
        (
            [_part("r1", 0, 1.0), _label("r2", 0)],
            [],
            "some labels are about parts of a request, others about",
        ),
        ([_part("r3", 0, 1.0)], [], "no request has both a fused record and a label"),
    ],
)
def test_parts_that_cannot_be_used_are_named(
    labels: list[Any], parts: list[str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=said):
        read(_write(tmp_path, *AHEAD, *labels), parts)
