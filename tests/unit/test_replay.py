"""What a replay makes of a stream, and the backtest that it is held against."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from stream_ensemble.cli.main import main
from stream_ensemble.errors import SettingsError
from tests.replay.answers import as_late
from tests.replay.run import label_findings
from tests.replay.schedule import CORRECTED_AFTER, Schedule, labels, scheduled, twice_and_wrong

ROWS, CLASSES = 600, 3


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Path, Schedule]:
    """Four members, from the third, the best, to the second, the worst."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, CLASSES, ROWS)
    skill = np.array([1.0, 0.1, 2.0, 0.5])[None, :, None] * np.eye(CLASSES)[y][:, None]
    P = np.exp(skill + rng.normal(size=(ROWS, 4, CLASSES)) * 0.1)
    file = tmp_path / "stream.npz"
    np.savez(file, P=P / P.sum(axis=2, keepdims=True), y=y, names=np.array(list("abcd")))
    return file, scheduled(file)


def test_the_best_two_change_places_and_the_third_is_silent(recorded: tuple[Path, Schedule]) -> None:
    file, schedule = recorded
    P = np.load(file)["P"]
    assert schedule.swapped == ("c", "a")
    assert schedule.silent == ("d", 200, 400)
    assert (schedule.outputs[:300, [0, 1, 2]] == P[:300, [0, 1, 2]]).all()
    assert (schedule.outputs[300:, [0, 1, 2]] == P[300:, [2, 1, 0]]).all()
    assert np.isnan(schedule.outputs[200:400, 3]).all()
    assert not np.isnan(schedule.outputs[400:]).any()


def test_every_label_comes_some_twice_and_some_wrong_and_corrected(recorded: tuple[Path, Schedule]) -> None:
    _, schedule = recorded
    published = list(labels(schedule.labels, CLASSES, 50))
    twice, wrong = twice_and_wrong(ROWS)
    assert (len(twice), len(wrong)) == (12, 6)
    assert [each.due for each in published] == sorted(each.due for each in published)
    often = Counter(each.row for each in published)
    assert all(often[row] == (2 if row in twice | wrong else 1) for row in range(ROWS))
    for each in published:
        right = each.label == schedule.labels[each.row]
        assert right == (each.row not in wrong or each.revision == 1)
        assert each.due == each.row + 50 + CORRECTED_AFTER * each.revision


def test_with_labels_in_time_it_is_the_backtest(
    recorded: tuple[Path, Schedule], capsys: pytest.CaptureFixture[str]
) -> None:
    file, schedule = recorded
    schedule.save(file)
    assert main(["backtest", str(file), "--loss", "log", "--delay", "50", "--json"]) == 0
    says = json.loads(capsys.readouterr().out)["loss"]
    learned = np.maximum(np.arange(ROWS) - 50, 0)
    assert as_late(schedule, learned) == pytest.approx(says, rel=1e-12)
    assert as_late(schedule, np.maximum(learned - 200, 0)) > 1.02 * says


def test_a_label_that_is_not_learned_once_is_found() -> None:
    counts = {"labels": 618, "labels-learned": 600, "labels-superseded": 18}
    assert label_findings(counts, ROWS) == []
    assert label_findings(counts | {"labels-learned": 599}, ROWS) == [
        "audit: labels-learned are 599, expected 600"
    ]


def test_a_stream_that_cannot_be_replayed_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "two.npz"
    np.savez(file, P=np.full((10, 2, 2), 0.5), y=np.zeros(10, int))
    with pytest.raises(SettingsError, match="2 members; a replay needs at least 3"):
        scheduled(file)
    np.savez(file, P=np.full((10, 3, 2), 0.7), y=np.zeros(10, int))
    with pytest.raises(SettingsError, match=r"two\.npz: the probabilities sum to 1\.4"):
        scheduled(file)
