"""The join against a slow, obvious model: one object per request, straight from the rules."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ensemble.core.join.records import Answer, Predictions, Requests, Status, Verdict
from stream_ensemble.core.join.state import JoinRules, PartitionJoin

K, V, DEADLINE, HORIZON = 3, 2, 100, 1000
IDS = [b"r%d" % i for i in range(6)]


def rules(quorum: int, *, prior: bool = False) -> JoinRules:
    return JoinRules(
        members=K,
        values=V,
        topic_of=(0, 1, 2),
        topics=4,
        partition=0,
        partitions=1,
        deadline_ms=DEADLINE,
        quorum=quorum,
        has_prior=prior,
        silence_after_ms=10**9,
        lateness_horizon_ms=HORIZON,
    )


@dataclass
class Open:
    """A request as the model sees it."""

    first: int
    due: int
    answers: dict[int, int] = field(default_factory=dict)
    expected: set[int] = field(default_factory=lambda: set(range(K)))
    status: Status | None = None

    def outputs(self) -> int:
        return sum(answer == Answer.OUTPUT for answer in self.answers.values())


class Model:
    """Rules 1, 2 and 4 of the design, one record after the other."""

    def __init__(self, quorum: int, *, prior: bool) -> None:
        self.quorum = quorum
        self.below = Status.FALLBACK if prior else Status.EXPIRED
        self.requests: dict[bytes, Open] = {}
        self.log_time = [-1] * K

    def predict(self, member: int, request_id: bytes, at: int, appended: int, answer: int) -> Verdict:
        self.log_time[member] = max(self.log_time[member], appended)
        if appended - min(at, appended) > HORIZON:
            return Verdict.LATE
        request = self.requests.setdefault(request_id, Open(appended, appended + DEADLINE))
        if member in request.answers:
            return Verdict.DUPLICATE
        if request.status is not None:
            return Verdict.LATE
        request.answers[member] = answer
        return Verdict.USED

    def complete(self) -> None:
        """What was read together counts together: requests end when all of it was looked at."""
        for request in self.requests.values():
            if request.status is None and request.expected <= request.answers.keys():
                request.status = Status.COMPLETE if request.outputs() >= self.quorum else self.below

    def ask(self, request_id: bytes, appended: int, expected: set[int], deadline: int) -> None:
        request = self.requests.setdefault(request_id, Open(appended, appended + DEADLINE))
        if request.status is not None or hasattr(request, "asked"):
            return
        request.asked = True  # type: ignore[attr-defined]
        request.expected = expected or request.expected
        request.due = request.first + (deadline or DEADLINE)

    def advance(self) -> None:
        for request in self.requests.values():
            waiting = request.expected - request.answers.keys()
            if request.status is None and all(self.log_time[m] >= request.due for m in waiting):
                request.status = Status.PARTIAL if request.outputs() >= self.quorum else self.below


steps = st.one_of(
    st.tuples(
        st.just("predict"),
        st.integers(0, K - 1) | st.none(),
        st.lists(
            st.tuples(
                st.sampled_from(IDS),
                st.integers(0, 1500),
                st.sampled_from(list(Answer)),
                st.integers(0, K - 1),
            ),
            min_size=1,
            max_size=8,
        ),
        st.integers(0, 80),
    ),
    st.tuples(
        st.just("ask"), st.sampled_from(IDS), st.sets(st.integers(0, K - 1)), st.sampled_from([0, 30, 300])
    ),
    st.tuples(st.just("release"), st.integers(0, 3)),
)


def predictions(
    member: int | np.ndarray, rows: list[tuple[bytes, int, Answer]], appended: int, offset: int
) -> Predictions:
    n = len(rows)
    answers = np.array([answer for *_, answer in rows], np.uint8)
    return Predictions(
        member,
        [request_id for request_id, *_ in rows],
        np.where(answers[:, None] == Answer.OUTPUT, 0.5, 0.0).repeat(V, axis=1),
        answers if answers.any() else None,
        np.array([appended - age for _, age, _ in rows], np.int64),
        np.full(n, appended, np.int64),
        np.arange(offset, offset + n),
    )


@settings(max_examples=300)
@given(st.integers(1, K), st.booleans(), st.lists(steps, max_size=40))
def test_every_request_ends_as_the_rules_say(quorum: int, prior: bool, script: list[tuple]) -> None:  # type: ignore[type-arg]
    join, model = PartitionJoin(rules(quorum, prior=prior)), Model(quorum, prior=prior)
    now, offsets = 5000, [0] * 4
    held: list[np.ndarray] = []
    ended: dict[bytes, Status] = {}

    def note(decided) -> None:  # type: ignore[no-untyped-def]
        rows = join.slots.row(decided.slots)
        for request_id, status in zip(join.slots.ids[rows], decided.status.tolist(), strict=True):
            assert request_id not in ended
            ended[request_id] = Status(status)
        if len(decided):
            held.append(decided.slots)

    for step in script:
        if step[0] == "predict":
            _, one, drawn, later = step
            now += later
            members = [one if one is not None else member for *_, member in drawn]
            rows = [(request_id, age, answer) for request_id, age, answer, _ in drawn]
            chunk = predictions(np.array(members) if one is None else one, rows, now, 0)
            chunk.offsets = np.array([offsets[m] + i for i, m in enumerate(members)])
            verdicts, decided, used = join.add_predictions(chunk, 0.0)
            for member in set(members):
                offsets[member] += len(rows)
                join.progress.read(member, now, offsets[member])
            expected = [
                model.predict(member, r, now - age, now, answer)
                for member, (r, age, answer) in zip(members, rows, strict=True)
            ]
            assert [Verdict(v) for v in verdicts.tolist()] == expected
            assert len(used) == expected.count(Verdict.USED)
            note(decided)
        elif step[0] == "ask":
            _, request_id, members, wait = step
            mask = sum(1 << m for m in members)
            asked = Requests(
                3,
                [request_id],
                np.array([-1]),
                np.array([now]),
                np.array([offsets[3]]),
                np.array([mask], np.uint64),
                np.array([wait]),
            )
            note(join.add_requests(asked, 0.0)[1])
            offsets[3] += 1
            join.progress.read(3, now, offsets[3])
            model.ask(request_id, now, set(members), wait)
        elif held:
            join.release(held.pop(step[1] % len(held)))
        model.complete()
        note(join.advance(0.0))
        model.advance()
        assert join.ledger.request_difference(join.open_requests) == 0
        assert join.ledger.prediction_difference() == 0
    assert ended == {r: request.status for r, request in model.requests.items() if request.status is not None}
    assert join.open_requests == sum(request.status is None for request in model.requests.values())


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=6), max_size=30), st.randoms())
def test_no_offset_is_free_before_its_request_is_released(chunks: list[list[int]], random) -> None:  # type: ignore[no-untyped-def]
    join = PartitionJoin(rules(1))
    needs: dict[int, set[bytes]] = {}
    open_slots: dict[bytes, np.ndarray] = {}
    offset = 0
    for numbers in chunks:
        member = random.randrange(K)
        ids = [b"q%d" % n for n in numbers]
        rows = [(request_id, 0, Answer.OUTPUT) for request_id in ids]
        verdicts, decided, _ = join.add_predictions(predictions(member, rows, 1, offset), 0.0)
        for place, request_id in enumerate(ids):
            if verdicts[place] == Verdict.USED:
                needs.setdefault(member, set()).add(request_id)
                join_offset = join.slots.offsets[join.slots.slot_of[request_id] & join.slots.mask, member]
                assert join_offset == offset + place
        offset += len(ids)
        for slot in decided.slots:
            open_slots[join.slots.ids[int(slot) & join.slots.mask]] = np.array([slot])
        if open_slots and random.random() < 0.5:
            request_id = random.choice(sorted(open_slots))
            join.release(open_slots.pop(request_id))
            for waiting in needs.values():
                waiting.discard(request_id)
        for k in range(K):
            lowest = [
                int(join.slots.offsets[join.slots.slot_of[r] & join.slots.mask, k]) for r in needs.get(k, ())
            ]
            assert join.held()[k] == min(lowest, default=None)


def test_memory_stays_flat_over_many_requests() -> None:
    join = PartitionJoin(rules(1))
    waiting = []
    for begin in range(0, 300_000, 1000):
        for member in range(K):
            rows = [(b"%020d" % n, 0, Answer.OUTPUT) for n in range(begin, begin + 1000)]
            verdicts, decided, _ = join.add_predictions(predictions(member, rows, 1000 + begin, begin), 0.0)
            assert not verdicts.any()
            join.progress.read(member, 1000 + begin, begin + 1000)
        join.progress.read(3, 1000 + begin, 0)
        waiting.append(decided.slots)
        if len(waiting) > 3:
            join.release(waiting.pop(0))
    assert join.slots.capacity <= 16_384
    assert len(join.slots.slot_of) <= 16_384
    # Two lateness horizons of 1,000 ms, and what waits to be cut.
    assert len(join.closed) < 30_000
    assert join.ledger.complete == 300_000
