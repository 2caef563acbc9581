"""schemas/ says the same as the code, and its examples are real."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from stream_ensemble import messages, schemas

README = (schemas.FOLDER / "README.md").read_text()
HEADERS = {"dead-letter header": "dead-letter-headers", "forwarded header": "forwarded-headers"}


def stored(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((schemas.FOLDER / f"{name}.schema.json").read_text())
    return found


def test_the_files_are_what_the_code_writes() -> None:
    assert schemas.stale() == []
    on_disk = {file.name for file in schemas.FOLDER.glob("*.json")}
    assert on_disk == {f"{name}.schema.json" for name in schemas.TYPES}


def test_a_file_that_is_missing_or_changed_is_named(tmp_path: Path) -> None:
    schemas.write(tmp_path)
    assert schemas.stale(tmp_path) == []
    (tmp_path / "fused.schema.json").write_text("{}")
    (tmp_path / "request.schema.json").unlink()
    assert schemas.stale(tmp_path) == ["request.schema.json", "fused.schema.json"]


@pytest.mark.parametrize("name", schemas.TYPES)
def test_each_file_is_a_valid_schema_that_describes_every_field(name: str) -> None:
    schema = stored(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:stream-ensemble:v1:{name}"
    for table in (schema, *schema.get("$defs", {}).values()):
        undescribed = [field for field, said in table["properties"].items() if "description" not in said]
        assert (table["title"], undescribed) == (table["title"], [])


def test_every_message_type_has_a_schema() -> None:
    described = {cls for cls, _ in schemas.TYPES.values()}
    assert set(messages.Message.__args__) | {messages.DeadLetter, messages.Forwarded} == described


def examples() -> Iterator[tuple[str, str]]:
    """Each example of the README with the schema it belongs to."""
    for section in re.split(r"^## ", README, flags=re.MULTILINE)[1:]:
        title = section.splitlines()[0]
        for block in re.findall(r"```json\n(.*?)```", section, flags=re.DOTALL):
            yield HEADERS.get(title, title), block


@pytest.mark.parametrize(("name", "example"), list(examples()))
def test_an_example_of_the_readme_fits_its_schema_and_its_type(name: str, example: str) -> None:
    Draft202012Validator(stored(name)).validate(json.loads(example))
    cls, _ = schemas.TYPES[name]
    decoded = msgspec.json.decode(example, type=cls)
    written = json.loads(msgspec.json.encode(decoded))
    assert written == {key: json.loads(example)[key] for key in written}


def test_the_readme_has_an_example_of_everything_and_links_every_file() -> None:
    assert {name for name, _ in examples()} == set(schemas.TYPES)
    assert all(f"({name}.schema.json)" in README for name in schemas.TYPES)


@pytest.mark.parametrize(
    "header",
    [
        messages.HEADER_CREDIT,
        messages.HEADER_DEAD_LETTER,
        messages.HEADER_FORMAT,
        messages.HEADER_FORWARDED,
        messages.HEADER_SOURCE,
        messages.HEADER_TRACE,
    ],
)
def test_the_readme_names_every_header(header: str) -> None:
    assert f"| `{header}` |" in README
