"""Tables of predictions and labels: a row for each request, in order.

Column ``y`` is the label. ``member`` holds the one number that a member answered, ``member:part`` one number
of several: the probability of the class named so, or the quantile of that tau. Empty or null: asleep. Columns
whose values are not numbers, and those named in ``FURTHER``, are about the request, such as a segment.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble.cli.backtest.recording import Raw
from stream_ensemble.errors import SettingsError
from stream_ensemble.messages import UNREADABLE

LABEL = "y"
#: Columns that are never a member's.
FURTHER = ("segment", "request_id", "at")

Columns = Mapping[str, Sequence[Any]]


def csv_columns(path: Path) -> Columns:
    """Columns of a CSV file with a header line, all text.

    Raises:
        SettingsError: no header, a name twice, or a line with another number of cells.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, None)
        if not header:
            raise SettingsError("the file is empty: expected a header line")
        for name in header:
            if header.count(name) > 1:
                raise SettingsError(f"two columns are named {name!r}")
        rows = []
        for cells in lines:
            if len(cells) != len(header):
                raise SettingsError(
                    f"line {lines.line_num} has {len(cells)} cells: expected {len(header)}, as the header"
                )
            rows.append(cells)
    return {name: [row[k] for row in rows] for k, name in enumerate(header)}


def jsonl_columns(path: Path) -> Columns:
    """Columns of a file with a JSON object in each line.

    A member's value is a number, null, a list (parts named 0, 1, ...) or an object of named parts.

    Raises:
        SettingsError: a line is no JSON object.
    """
    rows: list[dict[str, Any]] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                rows.append(_flat(msgspec.json.decode(line, type=dict[str, Any])))
            except UNREADABLE as error:
                raise SettingsError(f"line {number} is no JSON object: {error}") from None
    names = dict.fromkeys(name for row in rows for name in row)
    # A member that slept in one row and answered with several numbers in another stands there by its parts.
    parted = {name.rpartition(":")[0] for name in names if ":" in name}
    return {name: [row.get(name) for row in rows] for name in names if name not in parted}


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, list):
            flat |= {f"{name}:{part}": number for part, number in enumerate(value)}
        elif isinstance(value, dict):
            flat |= {f"{name}:{part}": number for part, number in value.items()}
        else:
            flat[name] = value
    return flat


def raw(columns: Columns) -> Raw:
    """The arrays that a table says.

    Raises:
        SettingsError: a column is missing or holds something else than numbers.
    """
    if LABEL not in columns:
        raise SettingsError(f"no column {LABEL!r} for the labels; columns are: {', '.join(columns)}")
    if not len(columns[LABEL]):
        raise SettingsError("no rows")
    further = {name for name in columns if name in FURTHER or not _numeric(columns[name])} - {LABEL}
    of_members: dict[str, list[str]] = {}
    for name in columns:
        if name != LABEL and name not in further:
            member, _, part = name.rpartition(":") if ":" in name else (name, "", "")
            of_members.setdefault(member, []).append(part)
    if not of_members:
        raise SettingsError("no column holds predictions: expected one for each member, or member:class")
    parts = next(iter(of_members.values()))
    for member, its in of_members.items():
        if its != parts:
            raise SettingsError(
                f"{member} has the parts {its}: expected {parts}, in this order, as the first member"
            )
    stacked = [
        np.stack([_floats(columns[f"{member}:{part}" if part else member]) for part in parts], axis=1)
        for member in of_members
    ]
    P = np.stack(stacked, axis=1)
    y = _labels(columns[LABEL], parts)
    about = {name: np.array([str(value) for value in columns[name]]) for name in further}
    return Raw(P if len(parts) > 1 else P[..., 0], y, tuple(of_members), _taus(parts), about)


def _numeric(values: Sequence[Any]) -> bool:
    try:
        _floats(values)
    except (TypeError, ValueError):
        return False
    return True


def _floats(values: Sequence[Any]) -> NDArray[np.float64]:
    return np.array([np.nan if value in (None, "") else float(value) for value in values])


def _labels(values: Sequence[Any], parts: list[str]) -> NDArray[np.float64]:
    """Labels as numbers: the place of the class that is named so, else the number itself."""
    place = {part: float(c) for c, part in enumerate(parts) if part}
    found = np.empty(len(values))
    for row, value in enumerate(values):
        if str(value) in place:
            found[row] = place[str(value)]
            continue
        try:
            found[row] = np.nan if value in (None, "") else float(value)
        except (TypeError, ValueError):
            known = f"one of {', '.join(place)}" if place else "a number"
            raise SettingsError(f"y is {value!r} in row {row}: expected {known}") from None
    return found


def _taus(parts: list[str]) -> list[float] | None:
    """The parts as quantiles, if they can be."""
    try:
        taus = [float(part) for part in parts]
    except ValueError:
        return None
    return taus if all(0 < tau < 1 for tau in taus) else None
