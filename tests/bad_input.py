"""Records as a broken or hostile writer would publish them: every field of every message, and what is none.

Each says what an error about it has to name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from stream_ensemble.messages import (
    FORMAT_ARRAYS,
    FORMAT_COLUMNS,
    HEADER_FORMAT,
    HEADER_FORWARDED,
    HEADER_TRACE,
)
from tests.property.test_messages import breakages

Headers = list[tuple[str, bytes | None]]
#: Deeper than any reader goes.
DEEP = b"[" * 5_000 + b"]" * 5_000
#: What is a name all the same: globs and escapes of Redis, ends of lines and of strings, other scripts.
ODD_NAMES = (
    "*",
    "a?[b-c]{d}",
    "line\nline\r\n",
    "nul\0nul",
    'quote"back\\slash',
    "\u202eright to left",
    "\U0001f600" * 64,
    "-0",
    "null",
    "\x7f\x80\uffff",
    " ",
    "x" * 128,
)


class Bad(NamedTuple):
    """A record that must be refused, and what the dead letter's reason or detail must name."""

    what: str
    key: bytes | None
    value: bytes | None
    names: str
    headers: Headers = []  # noqa: RUF012 - nobody adds to it


def prediction(request_id: str, member: str = "a", **more: Any) -> dict[str, Any]:
    """A prediction that is right."""
    said = {"version": 1, "kind": "prediction", "request_id": request_id, "member": member}
    return said | {"at": 1_700_000_000_000, "output": [0.5, 0.25, 0.25], "segment": "s"} | more


def request(request_id: str, **more: Any) -> dict[str, Any]:
    """A requests record that is right."""
    said = {"version": 1, "kind": "request", "request_id": request_id, "at": 1_700_000_000_000}
    return said | {"segment": "s", "members": ["a"], "deadline_ms": 900} | more


def feedback(request_id: str, **more: Any) -> dict[str, Any]:
    """A label that is right."""
    said = {"version": 1, "kind": "feedback", "request_id": request_id, "label": "x"}
    return said | {"at": 1_700_000_000_000, "revision": 1, "weight": 0.5} | more


CONTROL = {
    "version": 1,
    "kind": "control",
    "number": 1,
    "id": "1",
    "action": "pin",
    "by": "operator",
    "at": 1_700_000_000_000,
    "segment": "s",
    "pinned": {"weights": {"a": 1.0}},
    "generation": 1,
    "member": "a",
    "share": 0.1,
    "labels": 5.0,
}
TRIAL = {
    "version": 1,
    "kind": "trial",
    "request_id": "r",
    "member": "a",
    "output": [0.5, 0.25, 0.25],
    "appended": 1,
    "source": ["t", 0, 0, 0],
}
ORIGIN = {"topic": "t", "partition": 0, "offset": 0, "row": 0, "appended": 1}


def _dumped(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def _broken(kind: str, tree: dict[str, Any], key: bytes | None, headers: Headers = []) -> Iterator[Bad]:  # noqa: B006
    """Every field of a message missing, of a wrong type, out of range."""
    for what, broken in breakages(kind, tree):
        field = what.removeprefix("without ").split(" ")[0]
        yield Bad(f"{kind}: {what}", key, _dumped(broken), field, headers)


def predictions(member: str = "a") -> list[Bad]:
    """What must not be taken for a prediction of ``member``, of three classes."""
    return [
        *_broken("prediction", prediction("r", member), b"r"),
        *_outputs(prediction("r", member)),
        *_texts(prediction("r", member), ("request_id", "member", "segment")),
        *_around(prediction("r", member)),
        *_broken("predictions", _arrays(member), None, [(HEADER_FORMAT, FORMAT_ARRAYS)]),
    ]


def requests() -> list[Bad]:
    """What must not be taken for a requests record."""
    tree = request("r")
    return [
        *_broken("request", tree, b"r"),
        *_texts(tree, ("request_id", "segment")),
        *(bad for bad in _around(tree) if HEADER_FORMAT not in dict(bad.headers)),
        Bad("request: unknown member", b"r", _dumped(tree | {"members": ["nobody"]}), "members"),
        Bad("request: deep features", b"r", _with_raw(tree, "features", DEEP), "nested too deeply"),
    ]


def labels() -> list[Bad]:
    """What must not be taken for a label, an order or a trial."""
    tree = feedback("r")
    heavy = [b"1e400", b"1e308", b"0", b"-0.0", b"-5e-324", b"NaN", b"9" * 400]
    return [
        *_broken("feedback", tree, b"r"),
        *_texts(tree, ("request_id", "label")),
        *_around(tree),
        *(Bad(f"weight {w[:9]!r}", b"r", _with_raw(tree, "weight", w), "") for w in heavy),
        Bad("label 3 of 3", b"r", _dumped(tree | {"label": 3}), "label is 3"),
        Bad("unknown class", b"r", _dumped(tree | {"label": "*"}), "label is '*'"),
        *_broken("feedbacks", _label_arrays(), None, [(HEADER_FORMAT, FORMAT_ARRAYS)]),
        *_orders(),
        *(bad for bad in _broken("trial", TRIAL, None) if "kind" not in bad.names),
        *_outputs(TRIAL),
    ]


def _orders() -> Iterator[Bad]:
    """Orders that must not be taken for one."""
    yield from _broken("control", CONTROL, None)
    for weights in ({}, {"a": 0}, {"a": -1}, {"a": 1e308, "b": 1e308}, {"": 1}, {"a": "1"}):
        yield Bad(
            f"pin {weights}", None, _dumped(CONTROL | {"pinned": {"weights": weights}}), "pinned.weights"
        )
    block = {"algorithm": "bank", "generation": 0, "n": 0, "members": ["a"], "values": "\u00e9"}
    for values in ("\u00e9", "!", "AAAA", "AAAAAAAA8H8=", "////////73/////////vfw=="):
        pinned = {"weights": {"a": 1}, "credit": block | {"values": values}}
        yield Bad(f"credit {values}", None, _dumped(CONTROL | {"pinned": pinned}), "pinned.credit")
    for number in ({"n": 2**70}, {"generation": -1}, {"n": -1}):
        pinned = {"weights": {"a": 1}, "credit": block | number}
        yield Bad(f"credit {number}", None, _dumped(CONTROL | {"pinned": pinned}), "pinned.credit")
    for action, needed in (("pin", "pinned"), ("reset", "generation"), ("admit", "member")):
        tree = {k: v for k, v in CONTROL.items() if k != needed} | {"action": action}
        yield Bad(f"{action} without {needed}", None, _dumped(tree), needed)


def _arrays(member: str) -> dict[str, Any]:
    return {
        "version": 1,
        "kind": "predictions",
        "member": member,
        "request_ids": ["r"],
        "outputs": [[0.5, 0.25, 0.25]],
        "ats": [1],
        "answers": ["output"],
        "errors": [None],
        "segments": ["s"],
        "traceparents": [None],
    }


def _label_arrays() -> dict[str, Any]:
    return {
        "version": 1,
        "kind": "feedbacks",
        "request_ids": ["r"],
        "labels": ["x"],
        "ats": [1],
        "revisions": [0],
        "weights": [1.0],
    }


def _with_raw(tree: dict[str, Any], field: str, raw: bytes) -> bytes:
    """The message with bytes in place of a field's value that ``json`` would not write."""
    return _dumped(tree | {field: "@@"}).replace(b'"@@"', raw)


def _outputs(tree: dict[str, Any]) -> Iterator[Bad]:
    numbers = [
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e400",
        b"-1e400",
        b"9" * 400,
        b"1e308",
        b"-1e308",
        b"-5e-324",
    ]
    numbers += [b"9007199254740993", b"18446744073709551616", b"1.01", b"null", b'"0.5"', b"true", b"[0.5]"]
    for number in numbers:
        yield Bad(
            f"{tree['kind']}: output {number[:22]!r}",
            _key(tree),
            _with_raw(tree, "output", b"[0,0," + number + b"]"),
            "" if number[-1:] in b"Ny" else "output",
        )
    for raw in (b"[]", b"[1]", b"[0.5,0.5,0,0]", b"[[0.5,0.25,0.25]]", b"{}", b'"x"', DEEP):
        yield Bad(
            f"{tree['kind']}: output {raw[:22]!r}",
            _key(tree),
            _with_raw(tree, "output", raw),
            "" if raw == DEEP else "output",
        )


def _key(tree: dict[str, Any]) -> bytes | None:
    return None if tree["kind"] == "trial" else b"r"


def _texts(tree: dict[str, Any], fields: Iterable[str]) -> Iterator[Bad]:
    """Texts that are none, and such as nobody may have for a name."""
    kind = tree["kind"]
    for field in fields:
        for raw in (
            b'"\\ud800"',
            b'"\\udc00x"',
            b'"\xed\xa0\x80"',
            b'"\xff"',
            b'"\xc0\x80"',
            b'"a\nb"',
            b'"\0"',
        ):
            yield Bad(f"{kind}: {field} {raw!r}", None, _with_raw(tree, field, raw), "not-json")
        yield Bad(f"{kind}: long {field}", None, _with_raw(tree, field, b'"' + b"x" * 900_000 + b'"'), field)


def _around(tree: dict[str, Any]) -> Iterator[Bad]:
    """Keys, headers and bodies that do not go with a message which is right."""
    kind, value = tree["kind"], _dumped(tree)
    for key in (b"", b"R", b"r\0", b"\xff\xfe", b"r" * 200_000):
        yield Bad(f"{kind}: key {key[:9]!r}", key, value, "key")
    for name, body in {
        "nothing": b"",
        "null": b"null",
        "list": b"[]",
        "cut": value[:-1],
        "more": value + b"x",
        "twice": value + value,
        "mark": b"\xef\xbb\xbf" + value,
        "utf-16": value.decode().encode("utf-16"),
        "nul": bytes(len(value)),
        "deep": DEEP,
        "deep unknown": value[:-1] + b',"x":' + DEEP + b"}",
        "deeper": b'{"x":' * 200_000,
    }.items():
        yield Bad(f"{kind}: body {name}", b"r", body, "")
    yield Bad(f"{kind}: tombstone", b"r", None, "empty-value")
    for form in (None, b"", b"columns-2", b"\xff", b"x" * 10_000):
        yield Bad(f"{kind}: form {form!r:.20}", b"r", value, HEADER_FORMAT, [(HEADER_FORMAT, form)])
    yield Bad(f"{kind}: no columns", b"r", value, "", [(HEADER_FORMAT, FORMAT_COLUMNS)])
    moved: list[bytes | None] = [None, b"", b"{}", b"\xff", DEEP]
    moved += [_dumped(broken) for _, broken in breakages("forwarded-headers", ORIGIN)]
    for number, header in enumerate(moved):
        headers: Headers = [(HEADER_TRACE, b"\xff\0"), (HEADER_FORWARDED, header)]
        yield Bad(f"{kind}: forwarded {number}", b"r", value, HEADER_FORWARDED, headers)


def good_predictions(request_id: str, member: str) -> list[tuple[bytes, Headers]]:
    """What is right all the same, in one form after the other: value and headers."""
    tree = prediction(request_id, member)
    del tree["at"]
    numbers = [b"1,-0.0,-0", b"1E0,5e-324,1e-400", b"0.5,0.5000,0." + b"0" * 5_000]
    numbers.append(b"0.33333333333333333333333333333333,0.18446744073709551616,0.48219922592957114")
    found: list[tuple[bytes, Headers]] = [
        (_with_raw(tree, "output", b"[" + raw + b"]"), [(HEADER_TRACE, b"\xff\0")]) for raw in numbers
    ]
    twice = _dumped(tree)[:-1] + b',"output":[0.2,0.3,0.5],"x":[[]],"x":{"a":1,"a":2}}'
    found.append((twice, [(HEADER_TRACE, None), ("", b""), ("\ufffd", None)]))
    return found
