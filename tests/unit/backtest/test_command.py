"""``stream-ensemble backtest``: every option, the figures it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_ensemble.cli.main import main
from stream_ensemble.core.evaluation.classification import calibration_error
from stream_ensemble.core.learning.backtest import Stream, play
from stream_ensemble.core.learning.bank import Bank
from stream_ensemble.core.learning.calibrated_play import play_calibrated
from stream_ensemble.core.learning.calibration import by_name
from stream_ensemble.core.learning.choose import ALGORITHMS
from stream_ensemble.core.learning.losses import LogLoss
from stream_ensemble.core.learning.schedule import delayed
from tests.unit.backtest.recordings import MEMBERS, ROWS, classes, values, written
from tests.unit.learning.batches import DATA

Capture = pytest.CaptureFixture[str]


def figures(capsys: Capture, *arguments: str) -> dict[str, Any]:
    assert main(["backtest", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: Capture, *arguments: str) -> str:
    """The one line said; exit code 2."""
    assert main(["backtest", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line.removeprefix("stream-ensemble: ")


def test_electric_load_as_in_opera(capsys: Capture) -> None:
    file = str(DATA / "opera_load.npz")
    found = figures(
        capsys, file, "--loss", "square", "--algorithm", "ml_poly", "--half-life", "none", "--floor", "0"
    )
    assert round(found["loss"] ** 0.5, 6) == 1457.476154
    assert round(found["uniform"] ** 0.5, 4) == 1560.1697
    assert round(found["best_convex"] ** 0.5, 4) == 1442.4276
    assert [round(w, 5) for w in found["best_convex_weights"].values()] == [0.71917, 0.20088, 0.07995]
    assert found["best_single"] == min(found["members"].values())
    assert list(found["members"]) == list(found["weights"]) == ["gam", "ar", "gbm"]
    assert (found["labels"], found["requests"], found["unanswered"]) == (111, 112, 0)
    assert found["seconds"] > 0


def test_golden_figures_of_the_bank_and_of_boa(capsys: Capture) -> None:
    """Measured once; a change of the learning shows here first."""
    file = str(DATA / "opera_load.npz")
    assert figures(capsys, file, "--loss", "square")["loss"] == pytest.approx(2136738.0376060293, rel=1e-9)
    late = figures(capsys, file, "--loss", "square", "--algorithm", "boa", "--delay", "10")
    assert late["loss"] == pytest.approx(2295369.049176153, rel=1e-9)


def test_the_figures_are_those_of_the_core(tmp_path: Path, capsys: Capture) -> None:
    arrays = classes()
    found = figures(capsys, written(tmp_path, arrays), "--loss", "log", "--delay", "7")
    P, y = arrays["P"], arrays["y"]
    stream = Stream(P, np.ones((ROWS, 3), np.bool_), y, delayed(ROWS, 7))
    played = play(stream, Bank(MEMBERS), LogLoss())
    truth = P[np.arange(ROWS), :, y]
    assert found["algorithm"] == "bank"
    assert found["loss"] == pytest.approx(played.losses.mean(), rel=1e-12)
    assert found["labels"] == played.n == ROWS - 8
    assert list(found["members"].values()) == pytest.approx(-np.log(truth).mean(axis=0), rel=1e-12)
    assert found["uniform"] == pytest.approx(-np.log(truth.mean(axis=1)).mean(), rel=1e-12)
    assert list(found["weights"].values()) == pytest.approx(played.final, rel=1e-12)
    assert found["best_convex"] <= min(found["uniform"], found["best_single"]) * (1 + 1e-9)
    assert sum(span["loss"] for span in found["spans"]) / 20 == pytest.approx(found["loss"], rel=1e-9)


def test_calibration_errors_stand_beside_and_calibration_is_that_of_the_core(
    tmp_path: Path, capsys: Capture
) -> None:
    arrays = classes()
    file, P, y = written(tmp_path, arrays), arrays["P"], arrays["y"]
    plain = figures(capsys, file, "--loss", "log", "--delay", "7")
    found = figures(capsys, file, "--loss", "log", "--delay", "7", "--calibrate")
    stream = Stream(P, np.ones((ROWS, 3), np.bool_), y, delayed(ROWS, 7))
    issued = play(stream, Bank(MEMBERS), LogLoss()).fused
    after = play_calibrated(stream, issued)
    assert found["calibration"] == {
        "error": pytest.approx(calibration_error(issued, y), rel=1e-12),
        "uniform": pytest.approx(calibration_error(P.mean(axis=1), y), rel=1e-12),
        "calibrated": pytest.approx(calibration_error(after.fused, y), rel=1e-12),
        "calibrated_loss": pytest.approx(-np.log(after.fused[np.arange(ROWS), y]).mean(), rel=1e-12),
        "temperatures": pytest.approx(by_name(after.last), rel=1e-12),
    }
    assert found["loss"] == plain["loss"]
    both = {key: plain["calibration"][key] for key in ("error", "uniform")}
    assert plain["calibration"] == dict.fromkeys(found["calibration"], None) | both
    assert main(["backtest", file, "--loss", "log", "--delay", "7", "--calibrate"]) == 0
    out = capsys.readouterr().out
    assert "expected calibration error" in out
    assert f"{found['calibration']['calibrated']:.4f}" in out


def test_numbers_have_no_calibration(tmp_path: Path, capsys: Capture) -> None:
    file = written(tmp_path, values())
    assert figures(capsys, file, "--loss", "square")["calibration"] is None
    assert refused(capsys, file, "--loss", "square", "--calibrate") == (
        "--calibrate needs class probabilities: --loss log or brier"
    )


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "fixed"])
def test_every_algorithm_by_name(tmp_path: Path, capsys: Capture, algorithm: str) -> None:
    file = written(tmp_path, classes())
    found = figures(capsys, file, "--loss", "log", "--algorithm", algorithm, "--delay", "3")
    assert sum(found["weights"].values()) == pytest.approx(1, rel=1e-12)
    assert (found["loss"] == pytest.approx(found["uniform"])) == (algorithm == "uniform")


def test_fixed_takes_weights_by_name(tmp_path: Path, capsys: Capture) -> None:
    file = written(tmp_path, classes())
    arguments = (file, "--loss", "log", "--algorithm", "fixed")
    found = figures(capsys, *arguments, "--weights", "c=0,a=3,b=1")
    assert found["weights"] == {"a": 0.75, "b": 0.25, "c": 0.0}
    assert refused(capsys, *arguments) == "--weights and --algorithm fixed go together"
    assert refused(capsys, *arguments, "--weights", "a=1") == "--weights: expected one for each of a, b, c"


@pytest.mark.parametrize(("loss", "worst"), [("square", 400), ("absolute", 20), ("brier", 2)])
def test_every_loss(tmp_path: Path, capsys: Capture, loss: str, worst: float) -> None:
    file = written(tmp_path, classes() if loss == "brier" else values())
    found = figures(capsys, file, "--loss", loss)
    assert 0 < found["loss"] < worst
    assert found["loss_name"] == loss


def test_quantiles_from_the_file_or_the_command(tmp_path: Path, capsys: Capture) -> None:
    arrays = values()
    arrays["P"] = arrays["P"][..., None] + [-1.0, 0.0, 1.0]
    plain = written(tmp_path, arrays)
    with_taus = written(tmp_path, arrays | {"taus": np.array([0.1, 0.5, 0.9])}, "taus.npz")
    a = figures(capsys, plain, "--loss", "pinball", "--taus", ".1,.5,.9")
    assert a["loss"] == figures(capsys, with_taus, "--loss", "pinball")["loss"]
    assert "pinball needs the quantiles" in refused(capsys, plain, "--loss", "pinball")
    assert "2 taus: expected 3" in refused(capsys, plain, "--loss", "pinball", "--taus", ".1,.5")
    assert "above 0, below 1" in refused(capsys, plain, "--loss", "pinball", "--taus", "0,.5,.9")


def test_seeded_conditions_repeat_and_another_seed_differs(tmp_path: Path, capsys: Capture) -> None:
    arguments = (written(tmp_path, classes()), "--loss", "log", "--delay", "geometric:4")
    spoiled = (*arguments, "--label-rate", ".6", "--missing", ".4")
    a, b, c = (figures(capsys, *spoiled, "--seed", seed) for seed in ("1", "1", "2"))
    assert a["loss"] == b["loss"] != c["loss"]
    assert a["labels"] < 0.8 * ROWS
    assert figures(capsys, *arguments)["labels"] > a["labels"]


def test_bursts_and_drift(tmp_path: Path, capsys: Capture) -> None:
    arguments = (written(tmp_path, classes()), "--loss", "log", "--delay", "bursts:25")
    found = figures(capsys, *arguments)
    assert found["labels"] == 50
    spans = [span["weights"]["a"] for span in found["spans"]]
    assert spans[:8] == pytest.approx([1 / 3] * 8)
    assert spans[9] > 1 / 3
    assert figures(capsys, *arguments, "--drift", "half")["members"]["a"] > found["members"]["a"]


def test_nan_is_asleep_and_a_request_nobody_answered_is_left_out(tmp_path: Path, capsys: Capture) -> None:
    arrays = classes()
    arrays["P"][5] = np.nan
    arrays["P"][:, 2] = np.nan
    arrays["P"][9, 0, 1] = np.nan
    found = figures(capsys, written(tmp_path, arrays), "--loss", "log")
    assert found["unanswered"] == 1
    assert found["members"]["c"] is None
    assert found["labels"] == ROWS - 2
    assert np.isfinite(found["best_convex"])


def test_segments_by_a_column_of_the_file(tmp_path: Path, capsys: Capture) -> None:
    arrays = classes() | {"segment": np.array(["north", "south"] * (ROWS // 2))}
    file = written(tmp_path, arrays)
    with_segments = figures(capsys, file, "--loss", "log", "--segments", "segment")
    assert with_segments["loss"] != figures(capsys, file, "--loss", "log")["loss"]
    said = refused(capsys, file, "--loss", "log", "--segments", "region")
    assert said.endswith("--segments region: no such column; further columns are: segment")


def test_a_table_for_people(tmp_path: Path, capsys: Capture) -> None:
    assert main(["backtest", written(tmp_path, classes()), "--loss", "log"]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("bank", "uniform", "best single", "hindsight", "over time"))
    assert f"{ROWS} requests; {ROWS - 1} labels in" in said


def test_a_picture(tmp_path: Path, capsys: Capture) -> None:
    file, picture = written(tmp_path, classes()), tmp_path / "over_time.png"
    figures(capsys, file, "--loss", "log", "--plot", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    said = refused(capsys, file, "--loss", "log", "--plot", str(tmp_path / "gone" / "x.png"))
    assert said.startswith("--plot ")
    assert "--plot" in refused(capsys, file, "--loss", "log", "--plot", str(tmp_path / "x.nothing"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--delay", "soon"], "--delay soon: expected a whole number of requests, geometric:MEAN or bursts"),
        (["--delay", "-1"], "--delay -1: expected"),
        (["--delay", ":5"], "--delay :5: expected"),
        (["--delay", "bursts:0"], "--delay bursts:0: expected"),
        (["--algorithm", "adam"], "algorithm 'adam': expected one of bank, ml_poly, ewa"),
        (["--label-rate", "1.5"], "--label-rate 1.5: expected a share of 0 to 1"),
        (["--missing", "1"], "--missing 1: expected a share of 0 to below 1"),
        (["--floor", "1"], "--floor 1: expected a share"),
        (["--rate", "0"], "--rate 0: expected a number above 0"),
        (["--half-life", "0"], "--half-life 0: expected a number of labels above 0, or none"),
        (["--seed", "-1"], "--seed -1: expected 0 or more"),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path: Path, capsys: Capture, arguments: list[str], said: str) -> None:
    assert refused(capsys, written(tmp_path, classes()), "--loss", "log", *arguments).startswith(said)


@pytest.mark.parametrize("arguments", [[], ["--loss", "hinge"], ["--loss", "log", "--drift", "third"]])
def test_wrong_usage_answers_2(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["backtest", written(tmp_path, classes()), *arguments])
    assert left.value.code == 2
