"""Settings as TOML text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from stream_ensemble.config import Secret, Settings
from stream_ensemble.settings import kinds
from stream_ensemble.settings.problems import quoted, toml_path


def dump(settings: Settings, *, reveal_secrets: bool = False) -> str:
    """Every setting as TOML that ``load`` reads back to the same.

    A secret is written as a comment that says it is set, unless ``reveal_secrets``.
    """
    return "\n".join(_table((), settings, reveal_secrets)).strip() + "\n"


def value(item: object) -> str:
    """One value in TOML; ``None`` is the word ``load`` reads as "absent"."""
    if item is None:
        return '"none"'
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, str):
        return quoted(item)
    if isinstance(item, list):
        return f"[{', '.join(map(value, item))}]"
    if isinstance(item, dict):
        return "{" + ", ".join(f"{toml_path((name,))} = {value(inner)}" for name, inner in item.items()) + "}"
    return repr(item)


def _table(path: tuple[str, ...], table: msgspec.Struct, reveal: bool) -> Iterator[str]:
    known = kinds.fields(type(table))
    inner = [
        name for name, field in known.items() if kinds.table_of(field.type) or kinds.tables_of(field.type)
    ]
    if path:
        yield f"\n[{toml_path(path)}]"
    for name, field in known.items():
        if name not in inner:
            yield from _line(name, getattr(table, name), field.default, reveal)
    for name in inner:
        below = getattr(table, name)
        for key, each in _each(below):
            yield from _table((*path, name, *key), each, reveal)


def _each(below: Any) -> list[tuple[tuple[str, ...], msgspec.Struct]]:
    if isinstance(below, dict):
        return [((name,), each) for name, each in below.items()]
    return [((), below)]


def _line(name: str, item: object, default: object, reveal: bool) -> Iterator[str]:
    if isinstance(item, Secret):
        yield f"{name} = {value(item.reveal())}" if reveal else f"# {name} is set and not shown"
    elif item is not None or default is not None:
        yield f"{name} = {value(item)}"
