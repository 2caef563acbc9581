"""The fuse app's metrics, gathered when asked for: the hot path only counts in its ledgers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stream_ensemble.core.learning.calibration import by_name
from stream_ensemble.fuser.owner import FuseOwner
from stream_ensemble.stores.weights_view import WeightsView

_STATUSES = ("complete", "partial", "fallback", "expired")
_FATES = (
    "used",
    "late",
    "unneeded",
    "duplicate",
    "dead_lettered",
    "forwarded",
    "held",
    "replayed",
    "conflicting",
)


class FuserCollector(Collector):
    """Reads the ledgers of the partitions this process owns; counts are this process's first reads since it
    took p.
    """

    def __init__(self, app: Any, weights: Mapping[str, WeightsView]) -> None:
        self._app = app
        self._weights = weights

    def collect(self) -> Iterator[Metric]:
        owner: FuseOwner | None = self._app.owner
        labels = ["ensemble", "partition"]
        requests = CounterMetricFamily(
            "stream_ensemble_requests", "Requests by how they ended.", labels=[*labels, "status"]
        )
        predictions = CounterMetricFamily(
            "stream_ensemble_predictions", "Predictions by fate.", labels=[*labels, "fate"]
        )
        still_open = GaugeMetricFamily(
            "stream_ensemble_open_requests", "Requests not ended yet.", labels=labels
        )
        ended = GaugeMetricFamily(
            "stream_ensemble_ended_requests_known",
            "Ended requests that are remembered, for what comes late or again.",
            labels=labels,
        )
        held = GaugeMetricFamily(
            "stream_ensemble_inputs_held",
            "Input topics not read now, because `max_open_requests` are open.",
            labels=labels,
        )
        difference = GaugeMetricFamily(
            "stream_ensemble_ledger_difference",
            "Requests and predictions not accounted for; 0.",
            labels=labels,
        )
        silent = GaugeMetricFamily(
            "stream_ensemble_member_silent", "1: not waited for.", labels=[*labels, "member"]
        )
        awaited = GaugeMetricFamily(
            "stream_ensemble_member_awaited", "0: in shadow, or not read here.", labels=[*labels, "member"]
        )
        for (name, number), partition in (owner.partitions if owner else {}).items():
            place = [name, str(number)]
            join, ledger = partition.join, partition.join.ledger
            for status in _STATUSES:
                requests.add_metric([*place, status], getattr(ledger, status))
            for fate in _FATES:
                predictions.add_metric([*place, fate], getattr(ledger, fate))
            still_open.add_metric(place, join.open_requests)
            ended.add_metric(place, len(join.closed))
            held.add_metric(place, owner.held(name, number) if owner else 0)
            gap = abs(ledger.request_difference(join.open_requests)) + abs(ledger.prediction_difference())
            difference.add_metric(place, gap)
            names = owner.members(name) if owner else []
            for k, (member, quiet) in enumerate(zip(names, join.progress.silent.tolist(), strict=True)):
                silent.add_metric([*place, member], float(quiet))
                awaited.add_metric([*place, member], float(int(join.everyone) >> k & 1))
        yield from (requests, predictions, still_open, ended, held, difference, silent, awaited)
        yield GaugeMetricFamily(
            "stream_ensemble_bytes_in_flight",
            "Bytes written and not acknowledged; at `max_bytes_in_flight` reading waits.",
            value=owner.bytes_in_flight if owner else 0,
        )
        degraded = GaugeMetricFamily(
            "stream_ensemble_weights_degraded", "1: weights may be old.", labels=["ensemble", "cause"]
        )
        for name, view in self._weights.items():
            degraded.add_metric([name, view.degraded or "none"], float(view.degraded is not None))
        yield degraded
        yield self._temperatures()
        yield from self._segments()

    def _temperatures(self) -> Metric:
        found = GaugeMetricFamily(
            "stream_ensemble_temperature",
            "What learned outputs are calibrated with: of the first class by its log-odds, and of the rest; "
            "above 1 they are made less sure.",
            labels=["ensemble", "of"],
        )
        for name, view in self._weights.items():
            calibration = view.current().calibration
            for of, temperature in (by_name(calibration) if calibration else {}).items():
                found.add_metric([name, of], temperature)
        return found

    def _segments(self) -> Iterator[Metric]:
        held = GaugeMetricFamily(
            "stream_ensemble_segments_held", "Segments whose weights are held.", labels=["ensemble"]
        )
        lookups = CounterMetricFamily(
            "stream_ensemble_segment_lookups",
            "Groups of requests of a segment: held, or unread: fused with the global weights.",
            labels=["ensemble", "result"],
        )
        dropped = CounterMetricFamily(
            "stream_ensemble_segments_dropped",
            "Segments no longer held because more were asked for than `segments`.",
            labels=["ensemble"],
        )
        cold = CounterMetricFamily(
            "stream_ensemble_segments_found_cold",
            "Segments that had left Redis and that the learners were asked to bring back.",
            labels=["ensemble"],
        )
        for name, view in self._weights.items():
            counts = view.segments.counts
            held.add_metric([name], len(view.segments))
            for result in ("held", "unread"):
                lookups.add_metric([name, result], counts[result])
            dropped.add_metric([name], counts["dropped"])
            cold.add_metric([name], counts["cold"])
        yield from (held, lookups, dropped, cold)
