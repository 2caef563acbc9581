"""What is wrong with a setting, named in TOML notation."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable

from msgspec import Struct

#: Keys from the top of the file to the setting; an int is a place in a list, counted from 0.
Path = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_USERINFO = re.compile(r"//.*@|[^\s/\"',]+@")


class Problem(Struct, frozen=True):
    """One line for the user: the setting, its value unless secret or missing, and what is expected."""

    path: Path
    expected: str
    shown: str | None = None
    origin: str | None = None

    def __str__(self) -> str:
        value = "" if self.shown is None else f" = {self.shown}"
        origin = "" if self.origin is None else f" (from {self.origin})"
        return f"{toml_path(self.path)}{value}{origin}: {self.expected}"


def toml_path(path: Path) -> str:
    """``("ensembles", "a.b", "members", 0)`` as ``ensembles."a.b".members[0]``."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += ("." if text else "") + (key if _BARE_KEY.match(key) else quoted(key))
    return text


def quoted(text: str) -> str:
    """A TOML basic string, which is JSON's but for the delete character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def shown(value: object) -> str:
    """A value as TOML would write it, shortened, and without the user and password of a URL."""
    if value is None:
        return "(empty)"
    if isinstance(value, str | bool | list | dict):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = str(value)
    text = _USERINFO.sub(lambda match: "//***@" if match[0].startswith("//") else "***@", text)
    return text if len(text) <= 100 else text[:97] + "..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``unknown key`` with the nearest known one, or with all of them where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=1)
    return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; known here: {', '.join(names)}"
