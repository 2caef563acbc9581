"""The report's figures are scikit-learn's, and it says when a run did not show what it must."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from stream_ensemble.demo.report import percentiles, problems, report, scores, uniform, vote
from stream_ensemble.demo.scenario import CLASSES, MEMBERS, Plan, request_id
from stream_ensemble.demo.tally import Tally
from stream_ensemble.messages import Fused, WeightsVersion

RNG = np.random.default_rng(0)
VERSION = WeightsVersion(generation=0, n=7, digest="0" * 16)


def answer(n: int, components: dict[str, np.ndarray], output: np.ndarray) -> Fused:
    return Fused(
        version=1,
        kind="fused",
        request_id=request_id(0, n),
        status="complete" if len(components) == len(MEMBERS) else "partial",
        at=1000,
        output=output.tolist(),
        label="0",
        components={m: p.tolist() for m, p in components.items()},
        sources={},
        weights=dict.fromkeys(components, 1 / len(components)),
        weights_version=VERSION,
        config="",
    )


@pytest.fixture
def tally() -> Tally:
    tally = Tally(Plan(requests=120, seconds=1))
    for n in range(120):
        members = MEMBERS if n % 3 else MEMBERS[:-1]
        components = {m: RNG.dirichlet(np.ones(len(CLASSES))) for m in members}
        tally.add_fused(answer(n, components, RNG.dirichlet(np.ones(len(CLASSES)))), appended=1000 + n)
    return tally


def test_scores_are_those_of_scikit_learn() -> None:
    p = RNG.dirichlet(np.ones(10), size=400)
    y = RNG.integers(0, 10, size=400)
    found = scores(p, y)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(y, p.argmax(1)))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(y, p, labels=range(10)))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(y, p.argmax(1), average="macro"))


def test_a_member_is_scored_on_what_it_answered() -> None:
    p = np.full((4, 10), np.nan)
    p[1] = np.eye(10)[3] * 0.9 + 0.01
    found = scores(p, np.array([0, 3, 0, 0]))
    assert found["accuracy"] == 1.0
    assert found["answered"] == 0.25


def test_uniform_and_vote_are_over_the_awake() -> None:
    components = np.full((1, 3, 2), np.nan)
    components[0, 0], components[0, 2] = [0.9, 0.1], [0.6, 0.4]
    np.testing.assert_allclose(uniform(components), [[0.75, 0.25]])
    np.testing.assert_allclose(vote(components), [[2.5 / 3, 0.5 / 3]], atol=1e-8)


def test_a_tied_vote_goes_to_the_larger_mean() -> None:
    components = np.array([[[0.51, 0.49], [0.1, 0.9]]])
    assert vote(components)[0].argmax() == 1


def test_the_ledger_counts_missing_and_double_answers(tally: Tally) -> None:
    labels = RNG.integers(0, 10, size=120)
    assert report(tally, labels, 1.0)["ledger"]["difference"] == 0
    tally.terminal[5] = 0
    assert report(tally, labels, 1.0)["ledger"]["difference"] == 1
    tally.terminal[6] = 2
    found = report(tally, labels, 1.0)["ledger"]
    assert (found["terminal"], found["duplicates"], found["difference"]) == (119, 1, 2)


def test_the_report_has_the_promised_shape(tally: Tally) -> None:
    figures = report(tally, RNG.integers(0, 10, size=120), 12.34)
    assert set(figures["members"]) == set(MEMBERS) == set(figures["after_fault"]["members"])
    for part in (figures, figures["after_fault"]):
        for name in ("uniform", "vote", "fused"):
            assert {"accuracy", "log_loss", "macro_f1"} <= set(part[name])
    assert figures["statuses"] == {"partial": 40, "complete": 80}
    assert figures["latency_ms"] == {"p50": 59.5, "p99": pytest.approx(117.8, abs=0.1)}
    assert figures["seconds"] == 12.3
    assert figures["labels_learned"] == 7


def test_percentiles_leave_out_what_is_not_there() -> None:
    assert percentiles(np.array([np.nan, 1.0, 3.0])) == {"p50": 2.0, "p99": 3.0}


def passing() -> dict[str, Any]:
    good = {"members": {"a": {"log_loss": 0.5}, "b": {"log_loss": 0.6}}, "uniform": {"log_loss": 0.45}}
    part = {**good, "fused": {"log_loss": 0.4}}
    return {**part, "after_fault": copy.deepcopy(part), "ledger": {"difference": 0}}


def test_a_run_that_shows_what_it_must_has_no_problems() -> None:
    assert problems(passing()) == []


@pytest.mark.parametrize("part", ["whole", "after_fault"])
@pytest.mark.parametrize("loss", [0.47, 0.55])
def test_a_fused_answer_that_is_not_the_best_is_a_problem(part: str, loss: float) -> None:
    figures = passing()
    (figures if part == "whole" else figures["after_fault"])["fused"]["log_loss"] = loss
    assert len(problems(figures)) == (1 if loss < 0.5 else 2)


def test_a_ledger_that_does_not_balance_is_a_problem() -> None:
    assert problems({**passing(), "ledger": {"difference": 3}}) == ["the ledger's difference is 3, not 0"]
