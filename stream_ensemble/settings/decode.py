"""A tree of TOML values to a typed Struct, with every problem found and not only the first."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

import msgspec

from stream_ensemble.config import Secret
from stream_ensemble.settings import kinds
from stream_ensemble.settings.problems import Path, Problem, did_you_mean, shown, toml_path

_PLACE_IN_LIST = re.compile(r"at `\$\[(\d+)\]")
_BAD = object()


class Decoder:
    """Turns tables into Structs and collects what is wrong on the way in ``problems``."""

    def __init__(self, origins: Mapping[Path, str]) -> None:
        self.problems: list[Problem] = []
        self._origins = origins

    def table(self, cls: type[msgspec.Struct], node: object, path: Path) -> Any:
        """The Struct ``cls`` from ``node``; what comes back is of no use once ``problems`` is not empty."""
        if not isinstance(node, dict):
            return self._report(path, f"expected a table, as [{toml_path(path)}]", node)
        known = kinds.fields(cls)
        types = kinds.hints(cls)
        node = self._with_secret_files(node, known, path)
        for key in sorted(node.keys() - known.keys()):
            self._report((*path, key), did_you_mean(key, known))
        values: dict[str, object] = {}
        for name, field in known.items():
            if name in node:
                values[name] = self._value(field.type, types[name], node[name], (*path, name))
            elif field.required:
                self._report((*path, name), f"missing; expected {kinds.expected(field.type)}")
                values[name] = _BAD
        if any(value is _BAD for value in values.values()):
            return _BAD
        return self._built(cls, values, path)

    def _value(self, kind: kinds.Kind, hint: Any, value: object, path: Path) -> object:
        if (inner := kinds.table_of(kind)) is not None:
            return self.table(inner, value, path)
        if (inner := kinds.tables_of(kind)) is not None:
            return self._tables(kind, inner, value, path)
        return self._leaf(kind, hint, value, path)

    def _tables(self, kind: kinds.Kind, cls: type[msgspec.Struct], value: object, path: Path) -> object:
        if not isinstance(value, dict) or not value:
            return self._report(path, f"expected at least one table, as [{toml_path(path)}.NAME]", value)
        plain = kinds.bare(kind)
        assert isinstance(plain, msgspec.inspect.DictType)
        for name in value:
            if not re.match(kinds.pattern(plain.key_type), name):
                self._report((*path, name), f"expected {kinds.expected(plain.key_type)}")
        return {name: self.table(cls, inner, (*path, name)) for name, inner in value.items()}

    def _leaf(self, kind: kinds.Kind, hint: Any, value: object, path: Path) -> object:
        if value == "none" and kinds.is_optional(kind) and not kinds.is_text(kind):
            return None
        try:
            decoded = msgspec.convert(value, hint, dec_hook=_secret)
        except msgspec.ValidationError as error:
            return self._report_leaf(kind, value, path, str(error))
        for place, number in _numbers(decoded):
            if not math.isfinite(number):
                return self._report((*path, *place), "expected a finite number", number)
        return decoded

    def _report_leaf(self, kind: kinds.Kind, value: object, path: Path, error: str) -> object:
        plain = kinds.bare(kind)
        place = _PLACE_IN_LIST.search(error)
        if place and isinstance(plain, msgspec.inspect.ListType) and isinstance(value, list):
            index = int(place[1])
            return self._report((*path, index), f"expected {kinds.expected(plain.item_type)}", value[index])
        expectation = f"expected {kinds.expected(kind)}"
        if kinds.is_secret(kind):
            return self._report(path, expectation)
        return self._report(path, expectation, value)

    def _with_secret_files(
        self, node: dict[str, Any], known: Mapping[str, msgspec.inspect.Field], path: Path
    ) -> dict[str, Any]:
        node = dict(node)
        for name in (name for name, field in known.items() if kinds.is_secret(field.type)):
            # Empty is absent: a container passes on every variable it knows, set or not.
            if (file := node.pop(f"{name}_file", None)) in (None, ""):
                continue
            if node.get(name) is not None:
                self._report((*path, name), f"give either {name} or {name}_file, not both")
                continue
            try:
                node[name] = FilePath(file).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError, TypeError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "expected the name of a text file"
                self._report((*path, f"{name}_file"), f"cannot be read: {reason}", file)
        return node

    def _built(self, cls: type[msgspec.Struct], values: dict[str, object], path: Path) -> object:
        try:
            return cls(**values)
        except ValueError as error:
            return self._report(path, str(error))

    def _report(self, path: Path, text: str, *value: object) -> object:
        above = (path[:length] for length in range(len(path), 0, -1))
        origin = next((self._origins[part] for part in above if part in self._origins), None)
        self.problems.append(Problem(path, text, shown(value[0]) if value else None, origin))
        return _BAD


def _secret(cls: type, value: object) -> object:
    if cls is Secret and isinstance(value, str):
        return Secret(value)
    raise ValueError("expected text")


def _numbers(value: object) -> list[tuple[Path, float]]:
    if isinstance(value, float):
        return [((), value)]
    if isinstance(value, list):
        return [((place,), item) for place, item in enumerate(value) if isinstance(item, float)]
    if isinstance(value, dict):
        return [((name,), item) for name, item in value.items() if isinstance(item, float)]
    return []
