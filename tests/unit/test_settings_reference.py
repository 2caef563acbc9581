"""docs/settings.md says what config.py says, and its examples work."""

from __future__ import annotations

import re

import msgspec
import pytest

from stream_ensemble import settings_file
from stream_ensemble.config import Settings
from stream_ensemble.settings import kinds, reference

PAGE = reference.PAGE.read_text(encoding="utf-8")
FILE = "".join(
    f"""
[ensembles.{name}]
members = ["forest", "network"]
task = {{classes = ["no", "yes"]}}
learning = {{algorithm = "fixed", weights = {{forest = 1, network = 1}}}}
"""
    for name in ("digits", "fraud-eu")
)


def test_the_tables_are_what_the_code_writes() -> None:
    assert reference.with_tables(PAGE) == PAGE, "run python -m stream_ensemble.settings.reference"


def test_check_sees_a_page_that_is_not_current(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reference.main(["--check"]) == 0
    monkeypatch.setattr(reference, "tables", lambda: "another table\n")
    assert reference.main(["--check"]) == 1
    assert "run python -m stream_ensemble.settings.reference" in capsys.readouterr().err


def test_every_setting_has_a_row() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE))
    assert names(Settings) - rows == set()


def names(table: type[msgspec.Struct]) -> set[str]:
    """The names of all settings in and below a table; tables themselves have no row."""
    found: set[str] = set()
    for name, field in kinds.fields(table).items():
        inner = kinds.table_of(field.type) or kinds.tables_of(field.type)
        found |= names(inner) if inner else {name}
    return found


@pytest.mark.parametrize(
    ("variable", "setting"),
    re.findall(r"^\| `(STREAM_ENSEMBLE__\S+)` \| `(\S+)` \|", PAGE, flags=re.MULTILINE),
)
def test_an_example_variable_of_the_page_sets_what_it_says(variable: str, setting: str) -> None:
    name, _, text = variable.partition("=")
    changed = msgspec.to_builtins(settings_file.loads(FILE, {name: text}))
    unchanged = msgspec.to_builtins(settings_file.loads(FILE))
    *above, last = setting.split(".")
    for key in above:
        changed, unchanged = changed[key], unchanged[key]
    assert changed.pop(last) != unchanged.pop(last)
    assert changed == unchanged
