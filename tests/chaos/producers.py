"""The model workers and the labelling system of a run: they know every record that was acknowledged."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer

from stream_ensemble.config import TopicNames
from tests.chaos.routing import partition_of

_TICK_S = 0.02
_REMEMBERED = 1500
#: A producer gives a record up after so long; longer than any broker is away.
_REQUEST_MS = 60_000


class Written(NamedTuple):
    """A record that the brokers acknowledged, and when (wall clock, ms).

    All in-sync replicas had it by then.
    """

    topic: str
    partition: int
    offset: int
    acknowledged_ms: float

    @property
    def place(self) -> tuple[str, int, int]:
        """Where it stands."""
        return self.topic, self.partition, self.offset


class Sending(NamedTuple):
    """A record to be sent."""

    topic: str
    key: str
    value: bytes
    partition: int


class Traffic:
    """Requests at a steady rate; members are now and then late, wrong, double or absent.

    Attributes:
        written: all that was acknowledged.
        silent: the member that says nothing at the moment.
        flooding: whether earlier predictions are sent again as fast as it goes.
        until_s: when the last request was made (wall clock).
        unsent: records that were never acknowledged.
    """

    def __init__(
        self,
        bootstrap: Sequence[str],
        topics: TopicNames,
        members: Sequence[str],
        classes: Sequence[str],
        partitions: int,
        seed: int,
    ) -> None:
        self._bootstrap = list(bootstrap)
        self._topics, self._members, self._classes = topics, members, classes
        self._partitions = partitions
        self._chance = random.Random(f"traffic {seed}")
        self._recent: deque[Sending] = deque(maxlen=_REMEMBERED)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._sending: set[asyncio.Task[None]] = set()
        self.written: list[Written] = []
        self.unsent: list[tuple[Sending, BaseException]] = []
        self.silent: str | None = None
        self.flooding = False
        self.requests = 0
        self.until_s = 0.0

    async def run(self, seconds: float, rate: int) -> None:
        """Publish for so long, then wait until everything is acknowledged or given up."""
        self._producers = {
            name: AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                enable_idempotence=True,
                request_timeout_ms=_REQUEST_MS,
                linger_ms=3,
            )
            for name in (*self._members, "requests", "labels")
        }
        for producer in self._producers.values():
            await producer.start()
        try:
            await self._publish(seconds, rate)
            await asyncio.gather(*self._sending)
        finally:
            for producer in self._producers.values():
                await producer.stop()

    async def _publish(self, seconds: float, rate: int) -> None:
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            while self.requests < passed * rate:
                self._request()
            self._run_due(time.monotonic())
            if self.flooding:
                for again in self._chance.sample(self._recent, min(40, len(self._recent))):
                    self._send(self._by_topic(again.topic), again)
            await asyncio.sleep(_TICK_S)
        self.until_s = time.time()
        # What was still to come comes now.
        self._run_due(float("inf"))

    def _run_due(self, now: float) -> None:
        ready = sorted(entry for entry in self._due if entry[0] <= now)
        self._due = [entry for entry in self._due if entry[0] > now]
        for _, _, act in ready:
            act()

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        if delay_s <= 0:
            act()
        else:
            self._due.append((time.monotonic() + delay_s, self._chance.getrandbits(62), act))

    # --- one request ----------------------------------------------------------------------------------

    def _request(self) -> None:
        chance, at = self._chance, int(time.time() * 1000)
        request_id = f"r{self.requests}-{chance.getrandbits(40):x}"
        self.requests += 1
        truth = chance.randrange(len(self._classes))
        if chance.random() < 0.2:
            record = {"version": 1, "kind": "request", "request_id": request_id, "at": at}
            self._put("requests", self._topics.requests, request_id, record)
        for member, topic in zip(self._members, self._topics.predictions, strict=True):
            self._answer(member, topic, request_id, at, truth)
        if chance.random() < 0.6:
            self._label(request_id, truth)

    def _answer(self, member: str, topic: str, request_id: str, at: int, truth: int) -> None:
        chance = self._chance
        kind = chance.random()
        if kind < 0.02:
            return
        record = {"version": 1, "kind": "prediction", "request_id": request_id, "member": member, "at": at}
        if kind < 0.03:
            record["abstain"] = True
        elif kind < 0.035:
            record["output"] = [2.0, -1.0, 0.0]
        else:
            record["output"] = self._output(truth)
        delay = chance.uniform(1.1, 2.5) if chance.random() < 0.01 else chance.expovariate(20.0)
        partition = None
        if chance.random() < 0.01:
            partition = chance.randrange(self._partitions)

        def act() -> None:
            if self.silent != member:
                self._put(member, topic, request_id, record, partition)

        self._later(delay, act)
        if chance.random() < 0.01:
            self._later(delay + chance.expovariate(1.0), act)

    def _output(self, truth: int) -> list[float]:
        weights = [self._chance.expovariate(1.0) for _ in self._classes]
        weights[truth] += self._chance.choice([0.0, 1.0, 3.0])
        return [weight / sum(weights) for weight in weights]

    def _label(self, request_id: str, truth: int) -> None:
        chance = self._chance
        name = self._classes[truth]
        record: dict[str, Any] = {"version": 1, "kind": "feedback", "request_id": request_id, "label": name}
        delay = 0.0 if chance.random() < 0.1 else chance.expovariate(0.5)
        partition = chance.randrange(self._partitions) if chance.random() < 0.02 else None
        self._later(delay, lambda: self._put("labels", self._topics.feedback, request_id, record, partition))
        kind = chance.random()
        if kind < 0.03:
            again = record
        elif kind < 0.08:
            again = record | {"revision": 1, "label": chance.choice(self._classes)}
        elif kind < 0.09:
            again = record | {"label": "no such class", "revision": 2}
        elif kind < 0.1:
            again = record | {"request_id": f"unknown-{request_id}"}
        else:
            return
        later = delay + chance.expovariate(0.5)
        self._later(later, lambda: self._put("labels", self._topics.feedback, again["request_id"], again))

    # --- sending --------------------------------------------------------------------------------------

    def _put(
        self, by: str, topic: str, key: str, record: dict[str, Any], partition: int | None = None
    ) -> None:
        place = partition_of(key.encode(), self._partitions) if partition is None else partition
        sending = Sending(topic, key, json.dumps(record).encode(), place)
        if by in self._members:
            self._recent.append(sending)
        self._send(by, sending)

    def _by_topic(self, topic: str) -> str:
        return self._members[self._topics.predictions.index(topic)]

    def _send(self, by: str, sending: Sending) -> None:
        task = asyncio.get_running_loop().create_task(self._acknowledged(by, sending))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _acknowledged(self, by: str, sending: Sending) -> None:
        try:
            done = await self._producers[by].send_and_wait(
                sending.topic, sending.value, sending.key.encode(), partition=sending.partition
            )
        except Exception as error:  # whatever it was, the record may or may not stand there
            self.unsent.append((sending, error))
            return
        self.written.append(Written(sending.topic, done.partition, done.offset, time.time() * 1000))
