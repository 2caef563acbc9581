"""Reading ``ensemble.toml`` and the environment into ``Settings``, and writing them back.

Every problem is one line with the setting's path, its value unless it is secret, and what is expected.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stream_ensemble.config import Settings
from stream_ensemble.errors import SettingsError
from stream_ensemble.settings.crosschecks import crosscheck
from stream_ensemble.settings.decode import Decoder
from stream_ensemble.settings.environ import PREFIX, overlay
from stream_ensemble.settings.problems import Problem
from stream_ensemble.settings.template import template
from stream_ensemble.settings.write import dump

__all__ = ["DEFAULT_PATH", "PATH_VARIABLE", "dump", "load", "loads", "template"]

#: Names the settings file where no path is given.
PATH_VARIABLE = "STREAM_ENSEMBLE_CONFIG"
DEFAULT_PATH = "ensemble.toml"


def load(path: Path | str | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the file at ``path`` with the environment over it.

    Args:
        path: the file; absent: ``$STREAM_ENSEMBLE_CONFIG``, else ``./ensemble.toml``, which may be missing
            when the environment defines an ensemble.

    Raises:
        SettingsError: naming every setting that is missing, unknown or wrong.
    """
    named = path or environ.get(PATH_VARIABLE)
    file = Path(named or DEFAULT_PATH)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if named or not _defines_an_ensemble(environ):
            raise SettingsError(
                f"{file}: no such file; `stream-ensemble init {file}` writes one, and --config or "
                f"{PATH_VARIABLE} names another"
            ) from None
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError(f"{file}: cannot be read: {reason}") from None
    return loads(text, environ, str(file))


def loads(text: str, environ: Mapping[str, str] | None = None, source: str = "settings") -> Settings:
    """Settings from TOML text, with ``environ`` over it; ``source`` names the text in errors.

    Raises:
        SettingsError: naming every setting that is missing, unknown or wrong.
    """
    try:
        tree: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{source}: not TOML: {error}") from None
    over = overlay(tree, environ or {}, Settings)
    decoder = Decoder(over.origins)
    settings = decoder.table(Settings, over.tree, ())
    problems = over.problems + decoder.problems
    if not problems:
        problems = crosscheck(settings)
    if problems:
        raise SettingsError(_explained(source, problems))
    assert isinstance(settings, Settings)
    return settings


def _defines_an_ensemble(environ: Mapping[str, str]) -> bool:
    return any(name.upper().startswith(f"{PREFIX}ENSEMBLES__") for name in environ)


def _explained(source: str, problems: list[Problem]) -> str:
    if len(problems) == 1:
        return f"{source}: {problems[0]}"
    return "\n  ".join([f"{source}: {len(problems)} settings are wrong:", *map(str, problems)])
