"""Ended requests become fused records: with the weights in use, and with the credit they were fused with."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from stream_ensemble.config import Learning, Task
from stream_ensemble.core.fusion.linear_pool import linear_pool
from stream_ensemble.core.join.records import Decided, Predictions
from stream_ensemble.core.join.state import JoinRules, PartitionJoin
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.bank import Bank
from stream_ensemble.core.learning.calibration import calibrated
from stream_ensemble.core.learning.choose import make
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.segment_mixture import SegmentMixture
from stream_ensemble.core.tasks.choose import domain_of
from stream_ensemble.fuser.fusion import KEYFRAME_S, Fusion
from stream_ensemble.kafka.encode import FusedFormat
from stream_ensemble.messages import Calibration, ControlState, Fused, Pin, PinnedWeights, WeightsVersion
from stream_ensemble.stores.contributions import Order, Stored
from stream_ensemble.stores.control_state import encode_state
from stream_ensemble.stores.credit_snapshot import CreditSnapshot
from stream_ensemble.stores.pinned import Pins

MEMBERS = ("a", "b")
TASK = Task(classes=["x", "y", "z"])
DOMAIN = domain_of(TASK)
FORM = FusedFormat(MEMBERS, ("t.a", "t.b"), tuple(TASK.classes), 0, "c")
RNG = np.random.default_rng(0)


class Weights:
    """Weights that stay as they are until told otherwise."""

    degraded: str | None = None

    def __init__(self, algorithm) -> None:  # type: ignore[no-untyped-def]
        self.algorithm = algorithm
        self.segments: dict[str, CreditSnapshot] = {}
        self.use(algorithm.credit(algorithm.merge([Contribution(MEMBERS)])), 0)

    def use(self, values: np.ndarray, n: int) -> None:
        self.snapshot = self.of(values, n)

    def of(self, values: np.ndarray, n: int) -> CreditSnapshot:
        digest, block = credit_block.encode(self.algorithm.name, 0, n, MEMBERS, values)
        return CreditSnapshot(digest, block, values, WeightsVersion(generation=0, n=n, digest="v"))

    def current(self) -> CreditSnapshot:
        return self.snapshot

    def of_segment(self, segment: str) -> CreditSnapshot | None:
        return self.segments.get(segment)


class Time:
    """Monotonic seconds that move when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def ended(*awake: tuple[str, ...]) -> tuple[PartitionJoin, Decided, np.ndarray]:
    """A join in which a request per item ended with these members awake; and all outputs, R x K x C."""
    join = PartitionJoin(JoinRules(2, 3, (0, 1), 2, 0, 1, 10, 1, False, 10**9, 10**6))
    outputs = RNG.dirichlet(np.ones(3), size=(len(awake), 2))
    for k, member in enumerate(MEMBERS):
        places = [r for r, members in enumerate(awake) if member in members]
        ids = [b"r%d" % r for r in places]
        times = np.full(len(ids), 100)
        rows = Predictions(k, ids, outputs[places, k], None, times, times, np.array(places, np.int64))
        join.add_predictions(rows, 0.0)
    slots = np.array([join.slots.slot_of[b"r%d" % r] for r in range(len(awake))])
    nothing = np.zeros(len(awake), np.uint8)
    return join, Decided(slots, nothing, nothing), outputs


def records(fusion: Fusion, join: PartitionJoin, decided: Decided) -> list[Fused]:
    found = decoded(fusion, join, decided)
    assert [record.request_id for record in found] == [f"r{r}" for r in range(len(decided))]
    return found


def decoded(fusion: Fusion, join: PartitionJoin, decided: Decided) -> list[Fused]:
    encoded = fusion.encode(join.slots, decided, FORM)
    assert sorted(encoded.order.tolist()) == list(range(len(decided)))
    found = [msgspec.json.decode(value, type=Fused) for value in encoded.values]
    assert [record.request_id.encode() for record in found] == encoded.keys
    return found


def test_the_output_is_the_weighted_mean_of_the_awake() -> None:
    weights = Weights(make(Learning(algorithm="fixed", weights={"a": 3.0, "b": 1.0}), TASK, MEMBERS))
    join, decided, outputs = ended(("a", "b"), ("b",))
    both, alone = records(Fusion(weights.algorithm, weights, None, Time(), domain=DOMAIN), join, decided)
    assert both.weights == {"a": 0.75, "b": 0.25}
    np.testing.assert_allclose(both.output, 0.75 * outputs[0, 0] + 0.25 * outputs[0, 1], rtol=1e-15)
    assert alone.weights == {"b": 1.0}
    np.testing.assert_array_equal(alone.output, outputs[1, 1])


def test_an_algorithm_that_is_not_linear_fuses_by_itself() -> None:
    bank = Bank(MEMBERS)
    assert not bank.linear
    weights = Weights(bank)
    weights.use(RNG.random(len(weights.snapshot.values)), 40)
    join, decided, outputs = ended(("a", "b"), ("a",))
    fused = records(Fusion(bank, weights, None, Time(), domain=DOMAIN), join, decided)
    awake = np.array([[True, True], [True, False]])
    outputs[1, 1] = 0.0
    expected = bank.fuse(weights.snapshot.values, outputs, awake)
    np.testing.assert_array_equal([record.output for record in fused], expected)
    assert (
        np.abs(expected[0] - linear_pool(outputs[:1], bank.pool(weights.snapshot.values, awake[:1]))).max()
        > 1e-6
    )


def blocks(fusion: Fusion) -> list[bool]:
    join, decided, _ = ended(("a", "b"), ("a", "b"))
    found = records(fusion, join, decided)
    return [record.credit is not None and record.credit.blocks is not None for record in found]


def test_a_credit_block_stands_in_the_first_record_that_uses_it_and_again_after_a_minute() -> None:
    time = Time()
    weights = Weights(make(Learning(algorithm="ml_poly"), TASK, MEMBERS))
    fusion = Fusion(weights.algorithm, weights, None, time, domain=DOMAIN)
    assert blocks(fusion) == [True, False]
    assert blocks(fusion) == [False, False]
    time.now += KEYFRAME_S
    assert blocks(fusion) == [True, False]
    weights.use(np.array([1.0, 0.5]), 3)
    assert blocks(fusion) == [True, False]
    # A partition that is taken over again starts with another Fusion: nothing written before counts.
    assert blocks(Fusion(weights.algorithm, weights, None, time, domain=DOMAIN)) == [True, False]


def test_the_block_in_a_record_is_the_one_its_digest_names() -> None:
    weights = Weights(make(Learning(algorithm="ml_poly"), TASK, MEMBERS))
    join, decided, _ = ended(("a", "b"))
    [record] = records(Fusion(weights.algorithm, weights, None, Time(), domain=DOMAIN), join, decided)
    assert record.credit is not None and record.credit.blocks is not None
    values = credit_block.decode(record.credit.everywhere, record.credit.blocks[record.credit.everywhere])
    np.testing.assert_array_equal(values, weights.snapshot.values)


@pytest.mark.parametrize("name", ["ml_poly", "bank"])
def test_a_segment_is_fused_with_both_weights_and_its_credit_says_so(name: str) -> None:
    algorithm = make(Learning(algorithm=name), TASK, MEMBERS)
    weights, mixture = Weights(algorithm), SegmentMixture(algorithm)
    weights.use(RNG.random(mixture.width), 40)
    own = np.concatenate([RNG.random(mixture.width), [0.25, 1.0]])
    weights.segments = {
        "north": weights.of(own, 7),
        "new": weights.of(algorithm.credit(algorithm.merge([])), 0),
    }
    join, decided, outputs = ended(("a", "b"), ("a", "b"), ("a", "b"), ("a", "b"))
    segments = {1: "north", 2: "new", 3: "of no weights"}
    for r, segment in segments.items():
        join.slots.segment_of[int(decided.slots[r])] = segment
    fused = {
        int(record.request_id[1:]): record
        for record in decoded(Fusion(algorithm, weights, None, Time(), domain=DOMAIN), join, decided)
    }
    whole = weights.snapshot.values
    awake = np.ones((1, 2), np.bool_)
    for r, record in fused.items():
        held = weights.segments.get(segments.get(r, ""))
        assert record.segment == segments.get(r)
        assert record.credit is not None
        assert record.credit.everywhere == weights.snapshot.digest
        assert record.credit.segment == (held.digest if held else None)
        local = weights.segments["new"].values if held is None else held.values
        expected = mixture.fuse(whole, local, outputs[r : r + 1], awake)[0]
        np.testing.assert_allclose(record.output, expected, rtol=1e-14)
        assert record.weights == dict(zip(MEMBERS, mixture.pool(whole, local, awake)[0], strict=True))
    carried = {
        digest for record in fused.values() for digest in (record.credit and record.credit.blocks) or ()
    }
    used = [weights.snapshot, weights.segments["north"], weights.segments["new"]]
    assert carried == {snapshot.digest for snapshot in used}
    assert fused[1].output != fused[0].output
    np.testing.assert_array_equal(fused[2].output, algorithm.fuse(whole, outputs[2:3], awake)[0])


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_a_row_is_pooled_the_same_whatever_stands_beside_it(rows: int) -> None:
    outputs, weights = RNG.random((rows, 5, 3)), RNG.random((rows, 5))
    whole = linear_pool(outputs, weights)
    np.testing.assert_allclose(whole, np.einsum("rk,rkc->rc", weights, outputs), rtol=1e-14)
    for r in range(rows):
        np.testing.assert_array_equal(linear_pool(outputs[r : r + 1], weights[r : r + 1])[0], whole[r])


def under(weights: Weights, *held: Pin) -> None:
    """Pins these weights."""
    pins = Pins(weights.algorithm)
    state = ControlState(number=9, id="x", pins=held)
    pins.take({0: Stored(Order(0, 1, 1), encode_state(state))})
    weights.snapshot = replace(weights.snapshot, pins=pins)


def test_under_a_pin_the_output_is_the_pins_and_the_credit_stays_the_learners() -> None:
    weights = Weights(Bank(MEMBERS))
    weights.use(RNG.random(len(weights.snapshot.values)), 40)
    free = weights.snapshot
    under(weights, Pin(number=9, id="x", pinned=PinnedWeights(weights={"a": 3.0, "b": 1.0})))
    join, decided, outputs = ended(("a", "b"), ("b",))
    both, alone = records(Fusion(weights.algorithm, weights, None, Time(), domain=DOMAIN), join, decided)
    assert both.weights == {"a": 0.75, "b": 0.25}
    np.testing.assert_allclose(both.output, 0.75 * outputs[0, 0] + 0.25 * outputs[0, 1], rtol=1e-15)
    assert alone.weights == {"b": 1.0}
    assert both.weights_version == WeightsVersion(generation=0, n=40, digest="v", pin=9)
    assert both.credit is not None
    assert both.credit.everywhere == free.digest
    assert both.credit.blocks == {free.digest: free.block}


def test_a_pin_of_the_algorithms_own_credit_gives_its_own_output_to_the_bit() -> None:
    bank = Bank(MEMBERS)
    weights = Weights(bank)
    weights.use(RNG.random(len(weights.snapshot.values)), 40)
    kept = weights.snapshot
    weights.use(RNG.random(len(weights.snapshot.values)), 80)
    pinned = PinnedWeights(weights={"a": 1.0}, credit=kept.block)
    under(weights, Pin(number=9, id="x", pinned=pinned))
    join, decided, outputs = ended(("a", "b"))
    [record] = records(Fusion(bank, weights, None, Time(), domain=DOMAIN), join, decided)
    expected = bank.fuse(kept.values, outputs, np.ones((1, 2), np.bool_))
    np.testing.assert_array_equal(record.output, expected[0])


def test_a_pin_of_a_segment_is_for_its_requests_alone_and_their_credit_stays_that_of_both() -> None:
    algorithm = make(Learning(algorithm="ml_poly"), TASK, MEMBERS)
    weights, mixture = Weights(algorithm), SegmentMixture(algorithm)
    weights.use(RNG.random(mixture.width), 40)
    weights.segments = {"north": weights.of(np.concatenate([RNG.random(mixture.width), [0.25, 1.0]]), 7)}
    free = weights.snapshot
    pinned = PinnedWeights(weights={"a": 3.0, "b": 1.0})
    under(weights, Pin(number=9, id="x", segment="north", pinned=pinned))
    join, decided, outputs = ended(("a", "b"), ("a", "b"))
    join.slots.segment_of[int(decided.slots[1])] = "north"
    fusion = Fusion(algorithm, weights, None, Time(), domain=DOMAIN)
    found = {record.request_id: record for record in decoded(fusion, join, decided)}
    whole, north = found["r0"], found["r1"]
    assert north.weights == {"a": 0.75, "b": 0.25}
    np.testing.assert_allclose(north.output, 0.75 * outputs[1, 0] + 0.25 * outputs[1, 1], rtol=1e-15)
    assert (whole.weights_version.pin, north.weights_version.pin) == (None, 9)
    assert whole.weights == dict(
        zip(MEMBERS, algorithm.pool(free.values, np.ones((1, 2), bool))[0], strict=True)
    )
    assert whole.credit is not None
    assert north.credit is not None
    assert (north.credit.everywhere, north.credit.segment) == (free.digest, weights.segments["north"].digest)
    assert whole.credit.segment is None


def test_pinning_and_unpinning_take_effect_at_the_next_records() -> None:
    weights = Weights(make(Learning(algorithm="fixed", weights={"a": 3.0, "b": 1.0}), TASK, MEMBERS))
    fusion = Fusion(weights.algorithm, weights, None, Time(), domain=DOMAIN)
    free = weights.snapshot
    found = []
    for pin in (None, Pin(number=9, id="x", pinned=PinnedWeights(weights={"a": 1.0, "b": 1.0})), None):
        weights.snapshot = free
        if pin is not None:
            under(weights, pin)
        join, decided, _ = ended(("a", "b"))
        [record] = records(fusion, join, decided)
        found.append((record.weights, record.weights_version.pin))
    learned = ({"a": 0.75, "b": 0.25}, None)
    assert found == [learned, ({"a": 0.5, "b": 0.5}, 9), learned]


BY = Calibration(confidence=(0.8, 0.7, 0.9, 1.2, 1.5), rest=1.3)
OTHER = Calibration(confidence=(1.8, 1.7, 1.9, 1.2, 1.5), rest=0.9)


def calibrated_by(weights: Weights, by: Calibration | None) -> None:
    weights.snapshot = replace(weights.snapshot, calibration=by)


@pytest.mark.parametrize("name", ["ml_poly", "bank"])
@pytest.mark.parametrize("few", [2, 40])
def test_outputs_are_calibrated_and_the_credit_says_with_what(name: str, few: int) -> None:
    algorithm = make(Learning(algorithm=name, calibration=True), TASK, MEMBERS)
    weights = Weights(algorithm)
    weights.use(RNG.random(len(weights.snapshot.values)), 40)
    join, decided, outputs = ended(*[("a", "b")] * few)
    fusion = Fusion(algorithm, weights, None, Time(), domain=DOMAIN)
    before = records(fusion, join, decided)
    calibrated_by(weights, BY)
    after = records(fusion, join, decided)
    expected = algorithm.fuse(weights.snapshot.values, outputs, np.ones((few, 2), np.bool_))
    np.testing.assert_allclose([record.output for record in before], expected, rtol=1e-14)
    np.testing.assert_allclose([record.output for record in after], calibrated(expected, BY), rtol=1e-12)
    for one, other in zip(before, after, strict=True):
        assert one.output != other.output
        assert (one.label, one.weights) == (other.label, other.weights)
        assert one.credit is not None
        assert other.credit is not None
        assert (one.credit.calibration, other.credit.calibration) == (None, BY)
        assert other.credit.everywhere == one.credit.everywhere


def test_a_segment_is_calibrated_with_what_the_task_has_learned() -> None:
    algorithm = make(Learning(algorithm="bank", calibration=True), TASK, MEMBERS)
    weights, mixture = Weights(algorithm), SegmentMixture(algorithm)
    weights.use(RNG.random(mixture.width), 40)
    own = np.concatenate([RNG.random(mixture.width), [0.25, 1.0]])
    weights.segments = {"north": weights.of(own, 7)}
    calibrated_by(weights, BY)
    join, decided, outputs = ended(("a", "b"))
    join.slots.segment_of[int(decided.slots[0])] = "north"
    [record] = records(Fusion(algorithm, weights, None, Time(), domain=DOMAIN), join, decided)
    mixed = mixture.fuse(weights.snapshot.values, own, outputs, np.ones((1, 2), np.bool_))
    np.testing.assert_allclose(record.output, calibrated(mixed, BY)[0], rtol=1e-12)
    assert record.credit is not None
    assert record.credit.calibration == BY


def test_the_prior_is_answered_as_it_is() -> None:
    weights = Weights(make(Learning(algorithm="ml_poly", calibration=True), TASK, MEMBERS))
    calibrated_by(weights, BY)
    prior = np.array([0.6, 0.3, 0.1])
    join, decided, _ = ended(("a",), ("b",))
    decided = Decided(decided.slots, np.array([0, 2], np.uint8), np.array([0, 6], np.uint8))
    pooled, fallback = records(
        Fusion(weights.algorithm, weights, prior, Time(), domain=DOMAIN), join, decided
    )
    assert (pooled.status, fallback.status) == ("complete", "fallback")
    assert fallback.output == prior.tolist()
    assert fallback.credit is None
    assert pooled.credit is not None
    assert pooled.credit.calibration == BY


def test_pinned_weights_are_calibrated_by_what_was_kept_with_them_and_not_by_what_is_learned() -> None:
    bank = make(Learning(algorithm="bank", calibration=True), TASK, MEMBERS)
    weights = Weights(bank)
    weights.use(RNG.random(len(weights.snapshot.values)), 40)
    kept = weights.snapshot
    calibrated_by(weights, BY)
    everyone = np.ones((1, 2), np.bool_)
    for pinned, by in (
        (PinnedWeights(weights={"a": 1.0, "b": 3.0}), None),
        (PinnedWeights(weights={"a": 1.0, "b": 3.0}, calibration=OTHER), None),
        (PinnedWeights(weights={"a": 1.0}, credit=kept.block), None),
        (PinnedWeights(weights={"a": 1.0}, credit=kept.block, calibration=OTHER), OTHER),
    ):
        under(weights, Pin(number=9, id="x", pinned=pinned))
        join, decided, outputs = ended(("a", "b"))
        [record] = records(Fusion(bank, weights, None, Time(), domain=DOMAIN), join, decided)
        held = weights.snapshot.pins and weights.snapshot.pins.of(None)
        assert held
        plain = held.algorithm.fuse(held.values, outputs, everyone)
        expected = plain if by is None else calibrated(plain, by)
        np.testing.assert_allclose(record.output, expected[0], rtol=1e-12)
        assert record.credit is not None
        assert (record.credit.everywhere, record.credit.calibration) == (kept.digest, by)
