"""What the type of a setting accepts: in words for people, and as plain facts for reading text."""

from __future__ import annotations

from functools import cache
from typing import Any, get_type_hints

import msgspec
from msgspec import inspect

from stream_ensemble.config import Secret

Kind = inspect.Type


def bare(kind: Kind) -> Kind:
    """The kind without description and without ``None``."""
    if isinstance(kind, inspect.Metadata):
        return bare(kind.type)
    if isinstance(kind, inspect.UnionType):
        (only,) = (part for part in kind.types if not isinstance(part, inspect.NoneType))
        return bare(only)
    return kind


def is_optional(kind: Kind) -> bool:
    """Whether the setting may be absent in the sense of ``None``."""
    if isinstance(kind, inspect.Metadata):
        return is_optional(kind.type)
    return isinstance(kind, inspect.UnionType) and kind.includes_none


def is_text(kind: Kind) -> bool:
    """Whether any text is a value of this kind, so that no word can stand for "none"."""
    return isinstance(bare(kind), inspect.StrType | inspect.CustomType)


def is_secret(kind: Kind) -> bool:
    plain = bare(kind)
    return isinstance(plain, inspect.CustomType) and plain.cls is Secret


def table_of(kind: Kind) -> type[msgspec.Struct] | None:
    """The Struct of a fixed table such as ``[kafka]``, else ``None``."""
    plain = bare(kind)
    return plain.cls if isinstance(plain, inspect.StructType) else None


def tables_of(kind: Kind) -> type[msgspec.Struct] | None:
    """The Struct of freely named tables such as ``[ensembles.NAME]``, else ``None``."""
    plain = bare(kind)
    return table_of(plain.value_type) if isinstance(plain, inspect.DictType) else None


def description(kind: Kind) -> str:
    """The sentence that stands at the setting in ``config.py``; empty for a table."""
    if isinstance(kind, inspect.Metadata):
        found: str | None = (kind.extra_json_schema or {}).get("description")
        return found or description(kind.type)
    return ""


def pattern(kind: Kind) -> str:
    """The regular expression a name must match; ``""``, which matches all, where there is none."""
    plain = bare(kind)
    return (plain.pattern or "") if isinstance(plain, inspect.StrType) else ""


def example(kind: Kind) -> object:
    """A value to show for a setting without a default; ``None`` where none is given."""
    if isinstance(kind, inspect.Metadata):
        found: list[object] | None = (kind.extra_json_schema or {}).get("examples")
        return found[0] if found else example(kind.type)
    return None


@cache
def fields(table: type[msgspec.Struct]) -> dict[str, inspect.Field]:
    """The settings of a table, by name, in their order."""
    info = inspect.type_info(table)
    assert isinstance(info, inspect.StructType)
    return {field.name: field for field in info.fields}


@cache
def hints(table: type[msgspec.Struct]) -> dict[str, Any]:
    """The types of a table's settings as ``msgspec.convert`` takes them."""
    return get_type_hints(table, include_extras=True)


def expected(kind: Kind) -> str:
    """What is expected, in words: ``a whole number >= 1``."""
    if isinstance(kind, inspect.Metadata):
        own: str | None = (kind.extra or {}).get("expected")
        return own or expected(kind.type)
    if isinstance(kind, inspect.UnionType):
        return expected(bare(kind))
    if isinstance(kind, inspect.IntType):
        return "a whole number" + _bounds(kind)
    if isinstance(kind, inspect.FloatType):
        return "a number" + _bounds(kind)
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.LiteralType):
        values = [f'"{value}"' for value in kind.values]
        return values[0] if len(values) == 1 else "one of " + ", ".join(values)
    if isinstance(kind, inspect.ListType):
        return f"a list{_length(kind)}, each {expected(kind.item_type)}"
    if isinstance(kind, inspect.DictType):
        return f"a table of name = {expected(kind.value_type)}"
    if isinstance(kind, inspect.StructType):
        return "a table"
    return "text" + _characters(kind)


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    limits = ((">", kind.gt), (">=", kind.ge), ("<", kind.lt), ("<=", kind.le))
    return "".join(
        f"{' and' if sign.startswith('<') and (kind.gt, kind.ge) != (None, None) else ''} {sign} {limit}"
        for sign, limit in limits
        if limit is not None
    )


def _length(kind: inspect.ListType) -> str:
    if kind.min_length and kind.max_length:
        return f" of {kind.min_length} to {kind.max_length}"
    return f" of at least {kind.min_length}" if kind.min_length else ""


def _characters(kind: Kind) -> str:
    if not isinstance(kind, inspect.StrType) or not kind.min_length:
        return ""
    return f" of {kind.min_length} to {kind.max_length} characters" if kind.max_length else ", not empty"
