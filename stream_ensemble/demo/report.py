"""Figures of a demo run: the same scores for every member, the plain ways to combine them, and the fused
answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.evaluation.classification import accuracy, log_loss, macro_f1
from stream_ensemble.demo.scenario import CLASSES, FAULT_AT, MEMBERS
from stream_ensemble.demo.tally import Tally

Scores = dict[str, float]


def scores(output: NDArray[np.float64], labels: NDArray[np.int64]) -> Scores:
    """Accuracy, log loss (nats) and macro F1 over the rows with an output. Shapes: N x C, N."""
    there = _there(output)
    p, y = output[there], labels[there]
    if not len(y):
        return {"accuracy": float("nan"), "log_loss": float("nan"), "macro_f1": float("nan"), "answered": 0.0}
    return {
        "accuracy": accuracy(p, y),
        "log_loss": log_loss(p, y),
        "macro_f1": macro_f1(p, y),
        "answered": float(there.mean()),
    }


def _there(output: NDArray[np.float64]) -> NDArray[np.bool_]:
    there: NDArray[np.bool_] = np.logical_not(np.isnan(output).any(axis=-1))
    return there


def uniform(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """The plain mean of the awake members. N x K x C to N x C; NaN where nobody is awake."""
    awake = _there(components)
    total = np.where(awake[:, :, None], components, 0.0).sum(axis=1)
    count = awake.sum(axis=1)[:, None]
    result: NDArray[np.float64] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return result


def vote(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """Majority vote of the awake members as probabilities: (votes + 1/2) / (members + C/2), Krichevsky-
    Trofimov's
    estimate, so that a lost vote has a finite log loss. Ties go to the class with the larger mean. N x K x C
    to N x C.
    """
    awake: NDArray[np.bool_] = _there(components)
    choice = np.where(awake[:, :, None], components, -1.0).argmax(axis=2)
    classes = components.shape[2]
    votes = (np.eye(classes)[choice] * awake[:, :, None]).sum(axis=1)
    members = awake.sum(axis=1, keepdims=True)
    p = (votes + 0.5) / (members + classes / 2)
    tie_break = 1e-9 * np.nan_to_num(uniform(components))
    p = (p + tie_break) / (p + tie_break).sum(axis=1, keepdims=True)
    result: NDArray[np.float64] = np.where(members > 0, p, np.nan)
    return result


def report(tally: Tally, labels: NDArray[np.int64], seconds: float) -> dict[str, Any]:
    """Everything that goes into report.json."""
    n = tally.plan.requests
    after = np.arange(n) >= tally.plan.number_at(FAULT_AT)
    distinct = tally.ended
    duplicates = int((tally.terminal - 1).clip(min=0).sum())
    return {
        **compared(tally, labels, np.ones(n, np.bool_)),
        "after_fault": compared(tally, labels, after),
        "statuses": dict(tally.statuses),
        "ledger": {
            "requests": n,
            "terminal": distinct,
            "duplicates": duplicates,
            "difference": n - distinct + duplicates,
        },
        "latency_ms": percentiles(tally.latency),
        "latency_ms_by_status": {
            status: percentiles(tally.latency[tally.status == status]) for status in tally.statuses
        },
        "member_latency_ms": {m: percentiles(tally.member_latency[:, k]) for k, m in enumerate(MEMBERS)},
        "labels_learned": int(tally.learned.max(initial=0)),
        "degraded_records": tally.degraded,
        "classes": list(CLASSES),
        "seed": tally.plan.seed,
        "seconds": round(seconds, 1),
    }


def compared(tally: Tally, labels: NDArray[np.int64], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """Members, uniform, vote and fused over the same requests; a member is scored on those it answered in
    time.
    """
    components, y = tally.components[chosen], labels[chosen]
    return {
        "members": {member: scores(components[:, k], y) for k, member in enumerate(MEMBERS)},
        "uniform": scores(uniform(components), y),
        "vote": scores(vote(components), y),
        "fused": scores(tally.fused[chosen], y),
    }


def percentiles(values: NDArray[np.float64]) -> Mapping[str, float]:
    """Median and 99th percentile of the numbers that are there."""
    there = values[~np.isnan(values)]
    if not len(there):
        return {"p50": float("nan"), "p99": float("nan")}
    return {
        "p50": round(float(np.percentile(there, 50)), 1),
        "p99": round(float(np.percentile(there, 99)), 1),
    }


def problems(figures: Mapping[str, Any]) -> list[str]:
    """What a run must show and did not."""
    found = []
    if figures["ledger"]["difference"]:
        found.append(f"the ledger's difference is {figures['ledger']['difference']}, not 0")
    for name, part in (("over the whole run", figures), ("after the fault", figures["after_fault"])):
        fused, plain = part["fused"]["log_loss"], part["uniform"]["log_loss"]
        member, best = min(((m, s["log_loss"]) for m, s in part["members"].items()), key=itemgetter(1))
        if not fused < best:
            found.append(f"{name} the fused log loss {fused:.4f} is not below {member}'s {best:.4f}")
        if not fused < plain:
            found.append(f"{name} the fused log loss {fused:.4f} is not below the uniform mean's {plain:.4f}")
    return found
