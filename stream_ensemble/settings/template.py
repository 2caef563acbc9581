"""The commented ``ensemble.toml`` that ``stream-ensemble init`` writes, made from ``config.py``."""

from __future__ import annotations

import inspect as python
import textwrap
from collections.abc import Iterator

import msgspec

from stream_ensemble.config import Ensemble, Settings, Task
from stream_ensemble.settings import kinds
from stream_ensemble.settings.write import value

_HEAD = """\
# Settings of stream_ensemble. A line "# name = value" shows a default, or an example where it says so:
# take the "#" away to set it.
#
# An environment variable overrides any of them: STREAM_ENSEMBLE__KAFKA__BOOTSTRAP_SERVERS=a:9092,b:9092,
# STREAM_ENSEMBLE__ENSEMBLES__example__DEADLINE_MS=500. A password is better kept in a file of its own:
# sasl_password_file, password_file and ssl_keyfile_password_file name it.
# `stream-ensemble check` reads this file and says what is wrong with it.
"""

#: What has no default stands in the template as an example.
_EXAMPLE = Ensemble(
    members=["forest", "network", "neighbours"],
    task=Task(classes=["cat", "dog", "other"]),
)
_EXAMPLE_NAME = "example"
_WIDTH = 108


def template() -> str:
    """A settings file that is valid as it stands and names every setting, with what it means."""
    example = Settings(ensembles={_EXAMPLE_NAME: _EXAMPLE})
    return "\n".join([_HEAD, *_table((), example)]).rstrip() + "\n"


def _table(path: tuple[str, ...], table: msgspec.Struct) -> Iterator[str]:
    known = kinds.fields(type(table))
    if path:
        yield f"\n# {_first_line(type(table))}"
        yield f"[{'.'.join(path)}]"
    for name, field in known.items():
        if not kinds.table_of(field.type) and not kinds.tables_of(field.type):
            yield from _setting(name, field, getattr(table, name))
    for name, field in known.items():
        if kinds.table_of(field.type):
            yield from _table((*path, name), getattr(table, name))
        elif kinds.tables_of(field.type):
            yield from _table((*path, name, _EXAMPLE_NAME), getattr(table, name)[_EXAMPLE_NAME])


def _setting(name: str, field: msgspec.inspect.Field, current: object) -> Iterator[str]:
    yield from _comment(f"{kinds.description(field.type)} Expected: {kinds.expected(field.type)}.")
    if field.required or current != _default(field):
        yield f"{name} = {value(current)}"
    elif current is None:
        yield f"# {name} = {value(kinds.example(field.type))}  # an example; absent unless set"
    else:
        yield f"# {name} = {value(current)}"


def _default(field: msgspec.inspect.Field) -> object:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def _comment(text: str) -> Iterator[str]:
    for line in textwrap.wrap(text, _WIDTH, break_on_hyphens=False):
        yield f"# {line}"


def _first_line(table: type[msgspec.Struct]) -> str:
    return (python.getdoc(table) or "").partition("\n")[0].replace("``", "")
