"""Environment variables over the file: ``STREAM_ENSEMBLE__KAFKA__BOOTSTRAP_SERVERS=a:9092,b:9092``.

``__`` stands for the dot. Keys of fixed tables are read without regard to case. The name of an ensemble or a
member is matched as it is, else without regard to case and with ``_`` for ``-`` and ``.``, to one in the
file; a name that the file does not have is taken as it is.

Text settings take the value as it is; others read it as TOML, lists also as ``a,b,c``. An empty value means
"absent" where a setting may be absent.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect

from stream_ensemble.settings import kinds
from stream_ensemble.settings.problems import Path, Problem, did_you_mean

PREFIX = "STREAM_ENSEMBLE__"
Tree = dict[str, Any]


class UnknownNameError(Exception):
    """A variable names no setting; the text says which part and what is near."""


class Overlay(msgspec.Struct, frozen=True):
    """The tree with the variables put in, where each changed setting came from, and what was wrong."""

    tree: Tree
    origins: dict[Path, str]
    problems: list[Problem]


def overlay(tree: Tree, environ: Mapping[str, str], root: type[msgspec.Struct]) -> Overlay:
    """Put every variable that starts with ``PREFIX`` into a copy of ``tree``."""
    result = Overlay(_copied(tree), {}, [])
    for variable in sorted(name for name in environ if name.upper().startswith(PREFIX)):
        try:
            path, kind = _resolve(variable[len(PREFIX) :].split("__"), result.tree, root)
            _put(result.tree, path, _parsed(environ[variable], kind))
            result.origins[path] = variable
        except UnknownNameError as error:
            result.problems.append(Problem((variable,), str(error)))
    for path in result.origins:
        _drop_rival(result.tree, path, result.origins)
    return result


def _resolve(parts: list[str], tree: Tree, root: type[msgspec.Struct]) -> tuple[Path, kinds.Kind]:
    table: type[msgspec.Struct] = root
    node: Any = tree
    path: tuple[str, ...] = ()
    rest = list(parts)
    while True:
        name, kind = _field(table, rest.pop(0))
        path, node = (*path, name), _below(node, name)
        if (inner := kinds.table_of(kind)) is not None and rest:
            table = inner
            continue
        if (inner := kinds.tables_of(kind)) is not None and len(rest) >= 2:
            key = _named(rest.pop(0), node)
            path, node, table = (*path, key), _below(node, key), inner
            continue
        break
    if isinstance(kinds.bare(kind), inspect.DictType) and kinds.tables_of(kind) is None and len(rest) == 1:
        plain = kinds.bare(kind)
        assert isinstance(plain, inspect.DictType)
        return (*path, _named(rest[0], node)), plain.value_type
    if rest or kinds.table_of(kind) or kinds.tables_of(kind):
        raise UnknownNameError(f"names no setting, only something in or below the table {'.'.join(path)}")
    return path, kind


def _field(table: type[msgspec.Struct], part: str) -> tuple[str, kinds.Kind]:
    known = {name: field.type for name, field in kinds.fields(table).items()}
    known |= {f"{name}_file": inspect.StrType() for name, kind in known.items() if kinds.is_secret(kind)}
    name = part.lower()
    if name not in known:
        raise UnknownNameError(did_you_mean(name, known))
    return name, known[name]


def _below(node: Any, key: str) -> Any:
    return node.get(key, {}) if isinstance(node, dict) else {}


def _named(part: str, node: Any) -> str:
    names = [name for name in node if isinstance(name, str)] if isinstance(node, dict) else []
    if part in names:
        return part
    alike = [name for name in names if _folded(name) == _folded(part)]
    if len(alike) > 1:
        raise UnknownNameError(f"{part} may mean any of {', '.join(alike)}")
    return alike[0] if alike else part


def _folded(name: str) -> str:
    return re.sub(r"[-.]", "_", name).lower()


def _parsed(text: str, kind: kinds.Kind) -> object:
    if not text and kinds.is_optional(kind):
        return None
    plain = kinds.bare(kind)
    if isinstance(plain, inspect.StrType | inspect.CustomType | inspect.LiteralType):
        return text
    if isinstance(plain, inspect.ListType) and not text.lstrip().startswith("["):
        return [_parsed(part.strip(), plain.item_type) for part in text.split(",") if part.strip()]
    if isinstance(plain, inspect.DictType) and "=" in text and not text.lstrip().startswith("{"):
        return _toml("{" + text + "}")
    return _toml(text)


def _toml(text: str) -> object:
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if len(document) == 1 else text


def _put(tree: Tree, path: Path, value: object) -> None:
    node = tree
    for key in path[:-1]:
        below = node.get(str(key))
        if not isinstance(below, dict):
            below = node[str(key)] = {}
        node = below
    node[str(path[-1])] = value


def _drop_rival(tree: Tree, path: Path, origins: dict[Path, str]) -> None:
    """A secret from a variable replaces the one in the file, given there or by the name of its own file."""
    last = str(path[-1])
    rival = (*path[:-1], last.removesuffix("_file") if last.endswith("_file") else f"{last}_file")
    node: Any = tree
    for key in path[:-1]:
        node = _below(node, str(key))
    if rival not in origins and isinstance(node, dict):
        node.pop(str(rival[-1]), None)


def _copied(node: Any) -> Any:
    return {key: _copied(value) for key, value in node.items()} if isinstance(node, dict) else node
