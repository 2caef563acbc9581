"""Reading recorded streams: .npz, tables as .csv, .jsonl and .parquet, recorded topics as .jsonl."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from stream_ensemble.cli.backtest import tables, topics
from stream_ensemble.cli.backtest.recording import Raw
from stream_ensemble.errors import SettingsError


def read(path: Path, parts: Sequence[str] = ()) -> Raw:
    """What stands in the file, by its suffix.

    Args:
        parts: names of the parts that labels of recorded topics are about, in the order of the outputs.

    Raises:
        SettingsError: it is not there, cannot be read, or is of another kind.
    """
    if path.suffix not in READERS:
        raise SettingsError(f"{path}: expected a file that ends in {', '.join(READERS)}")
    try:
        if path.suffix == ".jsonl" and topics.holds_messages(path):
            return topics.read_messages(path, parts)
        return READERS[path.suffix](path)
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 text: {error}") from None
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def _npz(path: Path) -> Raw:
    try:
        data = np.load(path, allow_pickle=False)
        if not isinstance(data, np.lib.npyio.NpzFile):
            raise SettingsError("one array, not the several of an .npz")
        with data:
            arrays = {name: np.asarray(data[name]) for name in data.files}
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise SettingsError(f"not an .npz file of plain arrays: {error}") from None
    for name in ("P", "y"):
        if name not in arrays:
            there = ", ".join(arrays) or "none"
            raise SettingsError(f"no array {name}; arrays there are: {there}")
    names, taus = arrays.get("names"), arrays.get("taus")
    return Raw(
        arrays["P"],
        arrays["y"],
        None if names is None else [str(name) for name in names.ravel()],
        None if taus is None else [float(tau) for tau in taus.ravel()],
        {name: array for name, array in arrays.items() if name not in ("P", "y", "names", "taus")},
    )


def _csv(path: Path) -> Raw:
    return tables.raw(tables.csv_columns(path))


def _jsonl(path: Path) -> Raw:
    return tables.raw(tables.jsonl_columns(path))


def _parquet(path: Path) -> Raw:
    try:
        pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise SettingsError("reading Parquet needs the package pyarrow: pip install pyarrow") from None
    try:
        table = parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        raise SettingsError(f"not a Parquet file: {error}") from None
    columns: Mapping[str, list[Any]] = table.to_pydict()
    return tables.raw(columns)


READERS: Mapping[str, Callable[[Path], Raw]] = {
    ".npz": _npz,
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
