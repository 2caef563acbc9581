"""Weights in a file: what `weights show --json` printed, or a number for each member."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from stream_ensemble.cli.weights.kept import read_kept
from stream_ensemble.core.learning import credit_block
from stream_ensemble.errors import SettingsError
from stream_ensemble.messages import Calibration, PinnedWeights

_, BLOCK = credit_block.encode("ml_poly", 0, 5, ("a", "b"), np.array([1.0, 0.5]))


def kept(folder: Path, value: object) -> Path:
    file = folder / "weights.json"
    file.write_bytes(value if isinstance(value, bytes) else msgspec.json.encode(value))
    return file


def test_a_number_for_each_member(tmp_path: Path) -> None:
    assert read_kept(kept(tmp_path, {"a": 1, "b": 0})).weights == {"a": 1.0, "b": 0.0}


def test_what_show_prints_with_its_credit(tmp_path: Path) -> None:
    shown = {"ensemble": "e", "n": 5, "weights": {"a": 0.7, "b": 0.3}, "arms": {}, "credit": BLOCK}
    found = read_kept(kept(tmp_path, shown))
    assert (found.weights, found.credit, found.n) == ({"a": 0.7, "b": 0.3}, BLOCK, 5)


def test_what_its_outputs_were_calibrated_with_is_pinned_with_it(tmp_path: Path) -> None:
    by = Calibration(confidence=(0.7, 0.9, 1.2, 1.6, 0.8), rest=1.1)
    shown = {"weights": {"a": 0.7, "b": 0.3}, "credit": BLOCK, "calibration": by}
    found = read_kept(kept(tmp_path, shown))
    assert found.pinned == PinnedWeights(weights={"a": 0.7, "b": 0.3}, credit=BLOCK, calibration=by)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"{", "expected what `weights show --json` prints"),
        ({"a": "much"}, "expected what `weights show --json` prints"),
        ({"a": -1.0, "b": 2.0}, "weights of 0 or more"),
        ({"weights": {"a": 1.0}, "calibration": {"confidence": [1, 1, 1, 1, 0], "rest": 1}}, ">= 0.1"),
        ({"a": 0.0}, "at least one above 0"),
        ({}, "at least one above 0"),
        ({"weights": {"a": 1.0}, "credit": msgspec.structs.replace(BLOCK, values="AAAA")}, "float64"),
    ],
)
def test_anything_else_is_one_line_that_names_the_file(tmp_path: Path, value: object, said: str) -> None:
    file = kept(tmp_path, value)
    with pytest.raises(SettingsError) as raised:
        read_kept(file)
    assert str(raised.value).startswith(f"{file}: ")
    assert said in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_kept(tmp_path / "gone.json")
