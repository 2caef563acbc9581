"""The kinds of files, read to the same arrays."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stream_ensemble.cli.backtest import files
from stream_ensemble.errors import SettingsError
from tests.unit.backtest.recordings import MEMBERS, ROWS, classes, values, written


def _class_columns() -> dict[str, list[Any]]:
    """Class probabilities with c asleep in row 4, labels by class name, and a segment."""
    arrays = classes()
    columns: dict[str, list[Any]] = {"request_id": list(range(ROWS))}
    columns["segment"] = ["1", "2"] * (ROWS // 2)
    for k, member in enumerate(MEMBERS):
        for c, name in enumerate(("cat", "dog", "hen")):
            columns[f"{member}:{name}"] = arrays["P"][:, k, c].tolist()
    for name in ("cat", "dog", "hen"):
        columns[f"c:{name}"][4] = None
    columns["y"] = [("cat", "dog", "hen")[label] for label in arrays["y"]]
    return columns


def _write_csv(path: Path, columns: dict[str, list[Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _expected() -> dict[str, np.ndarray]:
    arrays = classes()
    arrays["P"][4, 2] = np.nan
    return arrays


def _assert_as_expected(raw: files.Raw) -> None:
    np.testing.assert_array_equal(raw.P, _expected()["P"])
    assert raw.y.tolist() == _expected()["y"].tolist()
    assert raw.names == MEMBERS
    assert raw.columns is not None
    assert raw.columns["segment"].tolist() == ["1", "2"] * (ROWS // 2)


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "stream.csv"
    _write_csv(path, _class_columns())
    _assert_as_expected(files.read(path))


def test_jsonl_with_an_object_for_each_member(tmp_path: Path) -> None:
    path = tmp_path / "stream.jsonl"
    columns = _class_columns()
    lines = []
    for r in range(ROWS):
        row: dict[str, Any] = {"segment": columns["segment"][r], "y": columns["y"][r]}
        for member in MEMBERS:
            its = {name: columns[f"{member}:{name}"][r] for name in ("cat", "dog", "hen")}
            row[member] = None if its["cat"] is None else its
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n\n")
    _assert_as_expected(files.read(path))


def test_jsonl_with_lists_and_numbers(tmp_path: Path) -> None:
    path = tmp_path / "stream.jsonl"
    path.write_text('{"y": 1, "a": [0.25, 0.75], "b": [0.5, 0.5]}\n{"y": 0, "a": null, "b": [1, 0]}\n')
    raw = files.read(path)
    np.testing.assert_array_equal(raw.P, [[[0.25, 0.75], [0.5, 0.5]], [[np.nan, np.nan], [1, 0]]])
    assert raw.y.tolist() == [1, 0]
    path.write_text('{"y": 1.5, "a": 2}\n{"y": 0, "a": 3}\n')
    assert files.read(path).P.tolist() == [[2], [3]]


def test_quantiles_are_the_names_of_the_parts(tmp_path: Path) -> None:
    path = tmp_path / "stream.csv"
    _write_csv(path, {"y": [1.0], "a:0.1": [0.5], "a:0.9": [1.5], "b:0.1": [0.0], "b:0.9": [2.0]})
    raw = files.read(path)
    assert raw.taus == [0.1, 0.9]
    assert raw.P.tolist() == [[[0.5, 1.5], [0.0, 2.0]]]


def test_parquet_without_pyarrow_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(files, "import_module", absent)
    with pytest.raises(SettingsError, match="reading Parquet needs the package pyarrow: pip install pyarrow"):
        files.read(tmp_path / "stream.parquet")


def test_parquet_columns_are_read_like_those_of_a_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = SimpleNamespace(to_pydict=_class_columns)
    stand_in = SimpleNamespace(read_table=lambda path: table, ArrowInvalid=ValueError)
    monkeypatch.setattr(files, "import_module", lambda name: stand_in)
    _assert_as_expected(files.read(tmp_path / "stream.parquet"))


def _one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("gone.npz", None, "no such file"),
        ("x.txt", None, r"expected a file that ends in .npz, .csv, .jsonl, .parquet"),
        ("x.npz", lambda path: path.write_bytes(b"nothing"), "not an .npz file of plain arrays"),
        ("x.npz", lambda path: path.write_bytes(b""), "not an .npz file of plain arrays"),
        ("x.npz", _one_array, "one array, not the several of an .npz"),
        ("x.npz", lambda path: np.savez(path, P=np.zeros(3)), "no array y; arrays there are: P"),
        ("x.npz", lambda path: np.savez(path, P=np.array([{}]), y=np.zeros(1)), "not an .npz file of plain"),
        ("x.npz", lambda path: path.mkdir(), "cannot be read"),
        ("x.csv", lambda path: path.write_text(""), "the file is empty"),
        ("x.csv", lambda path: path.write_text("y,a\n"), "no rows"),
        (
            "x.csv",
            lambda path: path.write_text("a,b\n1,2\n"),
            "no column 'y' for the labels; columns are: a, b",
        ),
        ("x.csv", lambda path: path.write_text("y,a,a\n1,2,3\n"), "two columns are named 'a'"),
        ("x.csv", lambda path: path.write_text("y,a\n1,2\n1\n"), "line 3 has 1 cells: expected 2"),
        ("x.csv", lambda path: path.write_text("y,what\n1,red\n"), "no column holds predictions"),
        ("x.csv", lambda path: path.write_text("y,a\nred,1\n"), "y is 'red' in row 0: expected a number"),
        (
            "x.csv",
            lambda path: path.write_text("y,a:u,a:v\nw,.5,.5\n"),
            "y is 'w' in row 0: expected one of u, v",
        ),
        ("x.csv", lambda path: path.write_text("y,a:u,a:v,b:v\n0,1,0,1\n"), "b has the parts"),
        ("x.csv", lambda path: path.write_bytes(b"y,a\n\xff,1\n"), "not UTF-8 text"),
        ("x.jsonl", lambda path: path.write_text('{"y": 1, "a": 2}\n[3]\n'), "line 2 is no JSON object"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path: Path, name: str, write: Any, said: str) -> None:
    if write:
        write(tmp_path / name)
    with pytest.raises(SettingsError, match=said) as caught:
        files.read(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_values_in_an_npz_come_back(tmp_path: Path) -> None:
    arrays = values() | {"segment": np.arange(ROWS)}
    raw = files.read(Path(written(tmp_path, arrays)))
    np.testing.assert_array_equal(raw.P, arrays["P"])
    assert raw.columns is not None
    assert list(raw.columns) == ["segment"]
