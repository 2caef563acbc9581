"""What the demo has seen come out: one row per request, filled as fused records and predictions are read."""

from __future__ import annotations

from collections import Counter

import numpy as np

from stream_ensemble.demo.scenario import CLASSES, MEMBERS, Plan, number_of
from stream_ensemble.messages import Fused, Prediction

_C, _K = len(CLASSES), len(MEMBERS)
_INDEX = {member: k for k, member in enumerate(MEMBERS)}


class Tally:
    """Columns by request number; R requests, K members, C classes.

    Attributes:
        fused R x C, components R x K x C, weights R x K (NaN where there is none); terminal R: terminal
        records seen;
        learned R: labels behind the weights; latency R and member_latency R x K in ms (NaN where there is
        none).
    """

    def __init__(self, plan: Plan) -> None:
        n = plan.requests
        self.plan = plan
        self.fused = np.full((n, _C), np.nan)
        self.components = np.full((n, _K, _C), np.nan)
        self.weights = np.full((n, _K), np.nan)
        self.learned = np.zeros(n, np.int64)
        self.terminal = np.zeros(n, np.int64)
        self.latency = np.full(n, np.nan)
        self.member_latency = np.full((n, _K), np.nan)
        self.at = np.full(n, np.nan)
        self.status = np.full(n, "", object)
        self.statuses: Counter[str] = Counter()
        self.degraded = 0

    @property
    def ended(self) -> int:
        """Requests with a terminal record."""
        return int((self.terminal > 0).sum())

    def add_fused(self, record: Fused, appended: int) -> None:
        """A fused record and its append time (ms)."""
        n = number_of(record.request_id)
        self.terminal[n] += 1
        if self.terminal[n] > 1:
            return
        self.status[n] = record.status
        self.statuses[record.status] += 1
        self.degraded += record.degraded is not None
        self.at[n] = record.at
        self.latency[n] = appended - record.at
        self.learned[n] = record.weights_version.n
        if record.output is not None:
            self.fused[n] = record.output
        for member, output in record.components.items():
            self.components[n, _INDEX[member]] = output
        for member, weight in (record.weights or {}).items():
            self.weights[n, _INDEX[member]] = weight

    def add_prediction(self, prediction: Prediction, appended: int) -> None:
        """A member's prediction and its append time (ms); the first one counts."""
        n, k = number_of(prediction.request_id), _INDEX[prediction.member]
        if prediction.at is not None and np.isnan(self.member_latency[n, k]):
            self.member_latency[n, k] = appended - prediction.at
