"""The tables of ``docs/settings.md``, made from ``config.py``.

``python -m stream_ensemble.settings.reference`` writes them into the page; ``--check`` says whether they are
up to date.
"""

from __future__ import annotations

import argparse
import inspect as python
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from stream_ensemble.config import Settings
from stream_ensemble.settings import kinds
from stream_ensemble.settings.write import value

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
BEGIN = "<!-- tables: written by python -m stream_ensemble.settings.reference -->"
END = "<!-- end of tables -->"


def tables() -> str:
    """One Markdown table for each table of ``ensemble.toml``."""
    return "\n".join(_table(Settings, ())).strip() + "\n"


def with_tables(page: str) -> str:
    """``page`` with what stands between the two marks replaced."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m stream_ensemble.settings.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; answer 1 when it is not current")
    checks = parser.parse_args(argv).check
    page = PAGE.read_text(encoding="utf-8")
    current = with_tables(page)
    if not checks:
        PAGE.write_text(current, encoding="utf-8")
    elif page != current:
        print("docs/settings.md: run python -m stream_ensemble.settings.reference", file=sys.stderr)
        return 1
    return 0


def _table(table: type[msgspec.Struct], path: tuple[str, ...]) -> Iterator[str]:
    known = kinds.fields(table)
    leaves = {name: field for name, field in known.items() if not _below(field.type)}
    yield f"\n## {'[' + '.'.join(path) + ']' if path else 'At the top'}\n"
    yield (python.getdoc(table) or "").replace("``", "`").replace("\n\n", " ").replace("\n", " ")
    yield "\n| key | default | expected | meaning |\n|---|---|---|---|"
    for name, field in leaves.items():
        cells = (f"`{name}`", _default(field), kinds.expected(field.type), kinds.description(field.type))
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
    for name, field in known.items():
        if (inner := _below(field.type)) is not None:
            named = ("NAME",) if kinds.tables_of(field.type) else ()
            yield from _table(inner, (*path, name, *named))


def _below(kind: kinds.Kind) -> type[msgspec.Struct] | None:
    return kinds.table_of(kind) or kinds.tables_of(kind)


def _default(field: msgspec.inspect.Field) -> str:
    if field.required:
        return "required"
    default = field.default
    if default is msgspec.NODEFAULT:
        default = field.default_factory()
    return "absent" if default is None else f"`{value(default)}`"


if __name__ == "__main__":
    sys.exit(main())
