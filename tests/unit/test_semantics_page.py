"""docs/semantics.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "semantics.md").read_text()
#: What a row names: a letter, or two, and the test's name.
NAMED = re.findall(r"\b([A-Z][a-z]?) `(\w+)`", PAGE)
LETTERS = re.findall(r"^\| ([A-Z][a-z]?(?:, [A-Z][a-z]?)*) \| (.+?) \|", PAGE, flags=re.MULTILINE)


def files() -> dict[str, Path]:
    """The file of each letter, from the first table."""
    found: dict[str, Path] = {}
    for letters, paths in LETTERS:
        names = re.findall(r"`([\w/]+\.py)`", paths)
        folder = (ROOT / names[0]).parent
        for letter, name in zip(letters.split(", "), names, strict=True):
            found[letter] = folder / Path(name).name
    return found


def test_every_letter_stands_for_one_file() -> None:
    named = [letter for letters, _ in LETTERS for letter in letters.split(", ")]
    assert len(named) == len(set(named))
    assert {letter for letter, _ in NAMED} <= files().keys()
    assert all(path.is_file() for path in files().values())


@pytest.mark.parametrize(("letter", "name"), sorted(set(NAMED)))
def test_every_test_it_names_exists(letter: str, name: str) -> None:
    assert f"def test_{name}(" in files()[letter].read_text()
