"""The learn app's metrics, gathered when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stream_ensemble.core.learning.control import AUTHORITIES, pin_of
from stream_ensemble.core.learning.trial import Record
from stream_ensemble.learner.owner import LearnOwner


class LearnerCollector(Collector):
    """Reads the partitions this process owns; counts are since it took them."""

    def __init__(self, owner: Callable[[], LearnOwner | None]) -> None:
        self._owner = owner

    def collect(self) -> Iterator[Metric]:
        """See ``Collector``."""
        place = ["ensemble", "partition"]
        labels = CounterMetricFamily(
            "stream_ensemble_labels", "Labels by what became of them.", labels=[*place, "fate"]
        )
        learned = GaugeMetricFamily(
            "stream_ensemble_labels_learned", "Labels in the weights of the whole task.", labels=place
        )
        parked = GaugeMetricFamily(
            "stream_ensemble_labels_parked", "Labels waiting for their fused record.", labels=place
        )
        stored = GaugeMetricFamily(
            "stream_ensemble_label_store_bytes",
            "What the local store takes of requests and labels within their horizons.",
            labels=place,
        )
        away = GaugeMetricFamily(
            "stream_ensemble_weights_unpublished",
            "1: Redis does not hold all that was learned.",
            labels=place,
        )
        generation = GaugeMetricFamily(
            "stream_ensemble_weights_generation", "Raised by each reset of the weights.", labels=place
        )
        pinned = GaugeMetricFamily(
            "stream_ensemble_weights_pinned",
            "1: all requests are fused with weights of this authority and not with the learned ones.",
            labels=[*place, "by"],
        )
        cold = GaugeMetricFamily(
            "stream_ensemble_segments_cold",
            "Segments that a partition has learned of and that have left Redis until they are needed.",
            labels=place,
        )
        losses = GaugeMetricFamily(
            "stream_ensemble_guardrail_loss",
            "Mean loss over the labels, old ones discounted, of each of the two mixtures.",
            labels=["ensemble", "mixture"],
        )
        shadows = GaugeMetricFamily(
            "stream_ensemble_shadow",
            "Of a member in shadow: labels scored, its mean loss, that of the mixture on the same requests, "
            "how much lower that is with it, and the evidence, which admits it.",
            labels=["ensemble", "member", "what"],
        )
        owner = self._owner()
        for (name, number), partition in (owner.partitions if owner else {}).items():
            here = [name, str(number)]
            for fate, count in sorted(partition.counts.items()):
                labels.add_metric([*here, fate], count)
            whole = partition.standing.learned.by_segment.get(None)
            learned.add_metric(here, whole.n if whole else 0)
            parked.add_metric(here, partition.parked)
            stored.add_metric(here, partition.stored_bytes)
            away.add_metric(here, float(partition.publisher.degraded is not None))
            cold.add_metric(here, len(partition.publisher.cooling.cold))
            generation.add_metric(here, partition.standing.learned.generation)
            pin = pin_of(partition.standing.controls, None)
            for by in AUTHORITIES:
                pinned.add_metric([*here, by], float(pin is not None and pin.by == by))
            judged = partition.guard and partition.guard.judged
            if judged:
                losses.add_metric([name, "learned"], judged.learned)
                losses.add_metric([name, "uniform"], judged.uniform)
            for member, record in (partition.admitter.records if partition.admitter else {}).items():
                for what, number_ in zip(Record._fields, record or (), strict=False):
                    shadows.add_metric([name, member, what], number_)
        yield from (labels, learned, parked, stored, away, generation, pinned, cold, losses, shadows)
