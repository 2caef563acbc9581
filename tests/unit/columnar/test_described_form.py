"""What schemas/columnar.md says is enough to write and read the form without this package's code."""

from __future__ import annotations

import json
import re
import struct
from typing import Any

from stream_ensemble import schemas
from stream_ensemble.columnar import feedbacks, predictions
from stream_ensemble.columnar.feedbacks import FeedbackBatch

DOCUMENT = (schemas.FOLDER / "columnar.md").read_text()


def example() -> bytes:
    """The value in the document, from its hex digits."""
    [block] = re.findall(r"```hex\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    return bytes.fromhex("".join(line[6:53] for line in block.splitlines()))


def write(head: dict[str, Any], blocks: list[bytes]) -> bytes:
    """By the document's table of bytes, with nothing but plain Python."""
    said = json.dumps(head).encode()
    while (8 + len(said)) % 8:
        said += b" "
    value = b"SEC1" + struct.pack("<I", len(said)) + said
    for block in blocks:
        while len(value) % 8:
            value += b"\0"
        value += block
    return value


def text(rows: list[str]) -> bytes:
    ends, joined = [], b""
    for row in rows:
        joined += row.encode()
        ends.append(len(joined))
    return struct.pack(f"<{len(rows)}I", *ends) + joined


def read(value: bytes) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """The head, and the numbers of each column that is no text, by name."""
    assert value[:4] == b"SEC1"
    (h,) = struct.unpack_from("<I", value, 4)
    head = json.loads(value[8 : 8 + h])
    at = 8 + h
    columns = {}
    letters = {
        "<f4": "f",
        "<f8": "d",
        "<i8": "q",
        "<i4": "i",
        "<u4": "I",
        "<u2": "H",
        "u1": "B",
        "bytes": "B",
    }
    for name, kind, width in head["columns"]:
        at += -at % 8
        if kind == "text":
            break
        form = f"<{head['rows'] * width}{letters[kind]}"
        columns[name] = struct.unpack_from(form, value, at)
        at += struct.calcsize(form)
    return head, columns


def test_the_example_is_read_as_the_document_says() -> None:
    batch = predictions.unpack(example())
    assert batch.member == "forest"
    assert batch.ids == [b"7f3a", b"7f3b"]
    assert batch.outputs.tolist() == [[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]
    assert batch.at is not None
    assert batch.at.tolist() == [1767225600000] * 2
    assert batch.segments == {1: "eu"}
    assert batch.wrong == {}


def test_the_example_is_what_this_package_writes() -> None:
    assert predictions.pack(predictions.unpack(example())) == example()


def test_predictions_written_by_the_document_alone_are_read() -> None:
    head = {
        "version": 1,
        "kind": "predictions",
        "member": "forest",
        "rows": 3,
        "columns": [
            ["request_id", "text", 0],
            ["output", "<f8", 2],
            ["answer", "u1", 1],
            ["error", "text", 0],
            ["a column of later", "<u2", 5],
            ["at", "<i8", 1],
        ],
        "a field of later": [],
    }
    blocks = [
        text(["a", "größer", "c"]),
        struct.pack("<6d", 0.25, 0.75, 0.0, 0.0, 1.0, 0.0),
        struct.pack("<3B", 0, 2, 0),
        text(["", "no picture", ""]),
        bytes(30),
        struct.pack("<3q", 5, 6, -1),
    ]
    batch = predictions.unpack(write(head, blocks))
    assert batch.ids == [b"a", "größer".encode(), b"c"]
    assert batch.outputs.tolist() == [[0.25, 0.75], [0.0, 0.0], [1.0, 0.0]]
    assert batch.answers is not None
    assert batch.answers.tolist() == [0, 2, 0]
    assert batch.errors == {1: "no picture"}
    assert batch.at is not None
    assert batch.at.tolist() == [5, 6, -1]
    assert batch.wrong == {}


def test_labels_written_by_the_document_alone_are_read() -> None:
    head = {
        "version": 1,
        "kind": "feedbacks",
        "rows": 2,
        "columns": [["request_id", "bytes", 2], ["label", "<i4", 1], ["weight", "<f8", 1]],
    }
    value = write(head, [b"abcd", struct.pack("<2i", 0, 2), struct.pack("<2d", 1.0, 0.5)])
    batch = feedbacks.unpack(value)
    assert [batch.message(r).request_id for r in range(2)] == ["ab", "cd"]
    assert [batch.message(r).label for r in range(2)] == [0, 2]
    assert [batch.message(r).weight for r in range(2)] == [1.0, 0.5]


def test_what_this_package_writes_is_read_by_the_document_alone() -> None:
    head, columns = read(feedbacks.pack(FeedbackBatch([b"abc", b"abd"], [4, 5])))
    assert (head["kind"], head["rows"]) == ("feedbacks", 2)
    assert columns == {"label": (4, 5), "request_id": tuple(b"abcabd")}
    head, columns = read(example())
    assert head["member"] == "forest"
    assert columns["output"] == (0.5, 0.25, 0.25, 0.0, 1.0, 0.0)
