"""The wire types as JSON Schema (2020-12), for writers and readers in other languages.

``python -m stream_ensemble.schemas`` writes ``schemas/``; ``--check`` says whether it is up to date.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from pathlib import Path
from typing import Any

import msgspec

from stream_ensemble import messages

FOLDER = Path(__file__).parent.parent / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: File name (without ending), type and title.
TYPES: dict[str, tuple[type[msgspec.Struct], str]] = {
    "request": (messages.Request, "Request"),
    "prediction": (messages.Prediction, "Prediction"),
    "predictions": (messages.PredictionArrays, "Predictions as arrays"),
    "fused": (messages.Fused, "Fused record"),
    "feedback": (messages.Feedback, "Feedback"),
    "feedbacks": (messages.FeedbackArrays, "Feedback as arrays"),
    "part-feedback": (messages.PartFeedback, "Feedback for a part of a request"),
    "part-feedbacks": (messages.PartFeedbackArrays, "Feedback for parts of requests as arrays"),
    "control": (messages.Control, "Control record"),
    "trial": (messages.Trial, "Late prediction in shadow"),
    "weights": (messages.Weights, "Weights contribution"),
    "controls": (messages.Controls, "Control state"),
    "applied": (messages.Applied, "Applied label"),
    "dead-letter-headers": (messages.DeadLetter, f"Header {messages.HEADER_DEAD_LETTER}"),
    "forwarded-headers": (
        messages.Forwarded,
        f"Headers {messages.HEADER_FORWARDED} and {messages.HEADER_SOURCE}",
    ),
}

#: What a type cannot say: of the three ways to answer exactly one is taken.
_EXACTLY_ONE_ANSWER = [
    {"required": ["output"], "properties": {"output": {"type": "array"}}},
    {"required": ["abstain"], "properties": {"abstain": {"const": True}}},
    {"required": ["error"], "properties": {"error": {"type": "string"}}},
]


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of one of ``TYPES``."""
    cls, title = TYPES[name]
    (root,), definitions = msgspec.json.schema_components([cls], ref_template="#/$defs/{name}")
    own = definitions.pop(root["$ref"].rpartition("/")[2])
    described: dict[str, Any] = _tidied(own)
    described |= {
        "$schema": DIALECT,
        "$id": f"urn:stream-ensemble:v{messages.VERSION}:{name}",
        "title": f"{title}, version {messages.VERSION}",
    }
    _describe_head(described["properties"], name)
    if cls is messages.Prediction:
        described["oneOf"] = _EXACTLY_ONE_ANSWER
    if definitions:
        described["$defs"] = {key: _tidied(value) for key, value in sorted(definitions.items())}
    first = ("$schema", "$id", "title", "description", "type", "required", "properties")
    return {key: described[key] for key in (*first, *sorted(described.keys() - set(first)))}


def text(name: str) -> str:
    """The schema file of one of ``TYPES``."""
    return msgspec.json.format(msgspec.json.encode(schema(name)), indent=2).decode() + "\n"


def write(folder: Path = FOLDER) -> None:
    """Write every schema file."""
    for name in TYPES:
        _file(folder, name).write_text(text(name), encoding="utf-8")


def stale(folder: Path = FOLDER) -> list[str]:
    """Names of the files in ``folder`` that are missing or not what ``write`` would write."""
    return [_file(folder, name).name for name in TYPES if not _is_current(_file(folder, name), text(name))]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m stream_ensemble.schemas", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; answer 1 when a file is not current"
    )
    if not parser.parse_args(argv).check:
        write()
        return 0
    for name in (found := stale()):
        print(f"schemas/{name} is not current: run python -m stream_ensemble.schemas", file=sys.stderr)
    return 1 if found else 0


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.schema.json"


def _is_current(file: Path, expected: str) -> bool:
    return file.exists() and file.read_text(encoding="utf-8") == expected


def _describe_head(properties: dict[str, Any], name: str) -> None:
    if "version" in properties:
        properties["version"] = {
            "description": "Of this form; another is refused.",
            "const": messages.VERSION,
        }
        properties["kind"] = {
            "description": "What the record is; another is refused.",
            "const": name.removeprefix("part-"),
        }


def _tidied(node: Any) -> Any:
    """Without Python's indentation and markup in descriptions, and with the description first."""
    if isinstance(node, list):
        return [_tidied(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidied = {key: _tidied(value) for key, value in node.items()}
    if isinstance(said := tidied.pop("description", None), str):
        return {"description": " ".join(inspect.cleandoc(said).replace("``", "`").split()), **tidied}
    return tidied if said is None else {"description": said, **tidied}


if __name__ == "__main__":
    sys.exit(main())
