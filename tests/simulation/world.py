"""One simulated deployment: a broker, a Redis, four hosts with a worker each, and their troubles."""

from __future__ import annotations

import copy
import itertools
import random
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka.structs import TopicPartition

from stream_ensemble.stores.contribution_field import encode_order, order_digits
from stream_ensemble.stores.contributions import Key, Order
from stream_ensemble.stores.control_state import CONTROLS
from tests.simulation import settings, stores
from tests.simulation.broker import Broker, View
from tests.simulation.effects import Effects
from tests.simulation.faults import CRASH_ANYWAY_S, HOSTS, Fault
from tests.simulation.group import Group
from tests.simulation.log import TOO_LARGE
from tests.simulation.loop import Clock
from tests.simulation.network import Process
from tests.simulation.traffic import Written
from tests.simulation.workers import KINDS, Fuser, Learner, Worker

#: Labels that have waited for so long are given up once the last records have come.
_OLD_MS = int(1000 * (settings.ORPHAN_S + settings.LATENESS_S))
#: A fence follows the answer to its heartbeat without a wait.
_AT_ONCE_S = 0.01
_LOWEST = Order(0, 0, 0)
Say = Callable[[str, str, str], None]


class World:
    """Everything of one schedule.

    Attributes:
        violations: what must never be, in words.
    """

    def __init__(
        self,
        seed: int,
        variant: int,
        faults: Sequence[Fault],
        say: Say | None = None,
        busy: float = 0.0,
        waiting: float = 0.0,
        *,
        transacted: bool = False,
    ) -> None:
        self.variant = variant
        self.transacted = transacted
        self.busy = busy
        self.waiting = waiting
        self.violations: list[str] = []
        self.numbers = itertools.count()
        self._rng = random.Random(seed ^ 0xC10C)
        self._say = say
        self.clock = Clock()
        self.broker = Broker(self.clock, self._rng)
        self.redis = stores.RedisServer()
        self.disks = stores.Disks()
        points = [fault.point for fault in faults if fault.point is not None]
        self.effects = Effects(points, lambda: self.clock.now)
        self.effects.trace = say
        app = settings.APP
        self.fusers = Group(f"{app}-fuse", settings.PARTITIONS, self.broker, self._rng)
        self.learners = Group(f"{app}-learn", settings.PARTITIONS, self.broker, self._rng)
        self.workers: dict[str, Worker] = {}
        self._gone: list[Process] = []
        self._restart: dict[str, float] = {}
        self._troubles = 0
        #: By transactional id: which process has fenced it in which generation.
        self._fenced: dict[str, tuple[Process, int]] = {}
        #: All has been written that ever will be.
        self.last = False
        self.broker.on_fence = self._on_fence
        for host in HOSTS:
            self.start(host)
        for fault in faults:
            self.clock.at(fault.when, None, self._happen, fault)

    # --- hosts --------------------------------------------------------------------------------------

    def start(self, host: str) -> None:
        """Start a new process on a host."""
        role = host.partition("-")[0]
        process = Process(self.clock, host, role, self.effects, self._rng, 1000.0 * self._rng.random())
        process.world = self
        process.on_end = lambda why: self._ended(host, process, why)
        self.workers[host] = KINDS[role](self, process)
        self._tell(host, "started", "")

    def _ended(self, host: str, process: Process, why: str) -> None:
        self._tell(host, "ended", why)
        self._gone.append(process)
        self.group(host).silent(process)
        wait = self._restart.pop(host, 0.2)
        self.clock.at(self.clock.now + wait, None, self.start, host)

    def group(self, host: str) -> Group:
        """The consumer group of a host's worker."""
        return self.fusers if host.startswith("fuse") else self.learners

    def running(self, kind: type[Worker]) -> list[Any]:
        """Workers of a kind that run."""
        return [w for w in self.workers.values() if isinstance(w, kind) and not w.process.dead]

    # --- what goes wrong ----------------------------------------------------------------------------

    def _happen(self, fault: Fault) -> None:
        act = getattr(self, "_" + fault.kind.replace(" ", "_"))
        self._tell("fault", fault.kind, fault.target)
        act(fault)

    def _for(self, length: float, undo: Callable[[], None]) -> None:
        self._troubles += 1

        def over() -> None:
            self._troubles -= 1
            undo()

        self.clock.at(self.clock.now + length, None, over)

    def _crash(self, fault: Fault) -> None:
        process = self.workers[fault.target].process
        self._restart[fault.target] = fault.length
        self._for(CRASH_ANYWAY_S, lambda: process.crash("not at its effect, which did not come"))

    def _stop(self, fault: Fault) -> None:
        worker = self.workers[fault.target]
        if hasattr(worker, "owner") and not worker.process.dead:
            self._restart[fault.target] = fault.length
            worker.process.call_soon(lambda: worker.run(worker.stop()))

    def _freeze(self, fault: Fault) -> None:
        process = self.workers[fault.target].process
        process.stop()
        self.group(fault.target).silent(process)
        self._for(fault.length, process.resume)

    _short_freeze = _freeze

    def _cut(self, fault: Fault) -> None:
        process = self.workers[fault.target].process
        process.cut = True
        self.group(fault.target).silent(process)
        self._for(fault.length, lambda: setattr(process, "cut", False))

    def _cut_redis(self, fault: Fault) -> None:
        process = self.workers[fault.target].process
        process.cut_redis = True
        self._for(fault.length, lambda: setattr(process, "cut_redis", False))

    def _rebalance(self, fault: Fault) -> None:
        self.group(f"{fault.target}-").rebalance()

    def _unreadable(self, fault: Fault) -> None:
        tp = _place(fault.target)
        self.broker.unreadable.add(tp)
        self._for(fault.length, lambda: self.broker.unreadable.discard(tp))

    def _new_leader(self, fault: Fault) -> None:
        """Another node leads. The old one hears of it later; later that one learns how far all have come."""
        for node in self.broker.elect():
            view = self.broker.views[node]
            self._for(
                fault.length * (0.3 + self._rng.random()), lambda node=node, view=view: self._sees(node, view)
            )

    def _sees(self, node: int, view: View) -> None:
        if self.broker.views.get(node) is view:
            del self.broker.views[node]

    def _refuse(self, fault: Fault) -> None:
        """The next batch is refused for itself."""
        self.broker.logs[_place(fault.target)].refusals.append("InvalidTimestampError")

    def _oversized(self, fault: Fault) -> None:
        """No batch of this topic partition is small enough, until somebody lets it take larger ones."""
        tp = _place(fault.target)
        self.broker.logs[tp].too_large = True
        self._for(fault.length, lambda: setattr(self.broker.logs[tp], "too_large", False))

    def _redis_away(self, fault: Fault) -> None:
        self.redis.available = False
        self._for(fault.length, lambda: setattr(self.redis, "available", True))

    def _redis_empty(self, fault: Fault) -> None:
        self.redis.flush_all()

    def _redis_older(self, fault: Fault) -> None:
        """Fail over to a replica that is behind."""
        older = copy.deepcopy(self.redis.hashes)
        self._for(fault.length, lambda: setattr(self.redis, "hashes", older))

    # --- watching -----------------------------------------------------------------------------------

    def violation(self, what: str, error: BaseException | None = None) -> None:
        """Note what must never be."""
        if error is not None and self._say is not None:
            what += "\n" + "".join(traceback.format_exception(error))
        self.violations.append(what)
        self._tell("checker", "violation", what)

    def look_at(self, worker: Fuser) -> None:
        """The ledgers balance at every step, and what is held stays within bound."""
        for (_, number), partition in worker.owner.partitions.items():
            join = partition.join
            ledger = join.ledger
            if ledger.request_difference(join.open_requests) or ledger.prediction_difference():
                self.violation(f"ledger of partition {number} in {worker.process.name}: {ledger.as_dict()}")

    def _on_fence(self, transactional_id: str, process: Any) -> None:
        if process.accepted_at < self.clock.now - _AT_ONCE_S:
            self.violation(f"{process.name} fenced {transactional_id} without an accepted heartbeat")
        self._check_pause(transactional_id, process)

    def _check_pause(self, transactional_id: str, process: Process) -> None:
        """What was too large for its topic when it was fenced before is tried again after a pause only."""
        by = process, self.fusers.generation
        before, self._fenced[transactional_id] = self._fenced.get(transactional_id), by
        number = int(transactional_id.rpartition("-")[2])
        topics = settings.topics(self.variant)
        refused: dict[str, int] = {}
        for topic in (topics.fused, topics.late):
            log = self.broker.logs[TopicPartition(topic, number)]
            for why, at in log.refused.items():
                refused[why] = min(at, refused.get(why, at))
            log.refused.clear()
        since = self.clock.broker_ms() - refused.get(TOO_LARGE, 0)
        if before == by and refused.keys() == {TOO_LARGE} and since < 1000 * settings.TOO_LARGE_S:
            self.violation(f"{process.name} tries an answer that is too large again after {since} ms")

    def _tell(self, who: str, what: str, detail: str) -> None:
        if self._say is not None:
            self._say(who, what, detail)

    # --- running ------------------------------------------------------------------------------------

    def write(self, batches: Sequence[tuple[float, str, int, list[Written]]]) -> None:
        """Let clients write these, from now on."""
        now = self.clock.now
        for when, topic, number, records in batches:
            rows = [(record.key, record.value, record.headers) for record in records]
            log = self.broker.logs[TopicPartition(topic, number)]
            self.clock.at(
                now + when, None, lambda log=log, rows=rows: log.append(rows, self.clock.broker_ms())
            )

    def unsettled(self) -> str | None:
        """What is still under way; None when nothing is."""
        if self._troubles or self.broker.ending:
            return "faults or ends of transactions"
        if any(worker.process.dead or worker.process.stalled is not None for worker in self.workers.values()):
            return "a worker is away"
        return self._fusers_unsettled() or self._learners_unsettled()

    def _fusers_unsettled(self) -> str | None:
        owned: dict[int, Fuser] = {}
        waiting: set[int] = set()
        for worker in self.running(Fuser):
            if not hasattr(worker, "owner") or not hasattr(worker, "consumer"):
                return "a fuser is starting"
            for (_, number), partition in worker.owner.partitions.items():
                owned[number] = worker
                join = partition.join
                # What is said in shadow of a request that nobody answers waits for the lateness horizon, and
                # with it its offset.
                if not self.last and len(partition.shadows) and not join.open_requests:
                    waiting.add(number)
                elif join.open_requests or join.ledger.held or len(partition._held):
                    return f"fuse partition {number} holds {partition.join.ledger.as_dict()}"
        if len(owned) < settings.PARTITIONS:
            return "a fuse partition has no owner"
        committed = self.broker.offsets[self.fusers.name]
        for number in set(range(settings.PARTITIONS)) - waiting:
            for topic in settings.fused(self.variant).inputs:
                tp = TopicPartition(topic, number)
                at = committed.get(tp)
                if (0 if at is None else at.offset) != self.broker.logs[tp].stable_end:
                    return (
                        f"{topic}/{number} is committed to {at}, its end is {self.broker.logs[tp].stable_end}"
                    )
        return None

    def _learners_unsettled(self) -> str | None:
        topics = settings.topics(self.variant)
        orders: dict[int, Order] = {}
        for worker in self.running(Learner):
            if not hasattr(worker, "owner"):
                return "a learner is starting"
            for (_, number), partition in worker.owner.partitions.items():
                here = partition._gathered
                ends = [
                    self.broker.logs[TopicPartition(t, number)].end for t in (topics.fused, topics.feedback)
                ]
                busy = here.says_something or partition._flushing.locked()
                # Labels without an answer wait until the last records have come.
                waiting = self.last and here.changes.parked(self.clock.broker_ms() - _OLD_MS, 1)
                if [here.fused, here.feedback] != ends or busy or waiting:
                    return f"learn partition {number} is at {here.fused}, {here.feedback} of {ends}"
                orders[number] = partition.standing.order
        if len(orders) < settings.PARTITIONS:
            return "a learn partition has no owner"
        return self._redis_unsettled(orders)

    def _redis_unsettled(self, orders: dict[int, Order]) -> str | None:
        """Redis and all fusers have what the learners have."""
        keys = Key(settings.learned(self.variant).task), CONTROLS
        hashes = self.redis.hashes
        stands = {key: {n: order_digits(raw) for n, raw in hashes.get(key, {}).items()} for key in keys}
        for number, order in orders.items():
            digits = encode_order(order)
            if order_digits(hashes.get(None, {}).get(number, b"")) != digits:
                return f"the marker of {number} in Redis is not at {order}"
            if order.sequence and max(stands[key].get(number, b"") for key in keys) != digits:
                return f"the weights of {number} in Redis are not at {order}"
        for worker in self.running(Fuser):
            for key in keys:
                held = worker.view._joined.fields(key).items()
                used = {number: encode_order(stored.order) for number, stored in held}
                if worker.view.degraded or used != stands[key]:
                    return f"{worker.process.name} uses {used} of {key}, {worker.view.detail}"
            for segment, held in worker.view.segments._held.items():
                stored = hashes.get(Key(keys[0].task, segment), {})
                older = {
                    n
                    for n, raw in stored.items()
                    if order_digits(raw) != encode_order(held.orders.get(n, _LOWEST))
                }
                if older:
                    return f"{worker.process.name} holds of segment {segment} what {older} said before"
        return None

    def settle(self, least: float, limit: float) -> str | None:
        """Let time pass, for ``least`` seconds and until all is quiet; what is not by then is told."""
        end = self.clock.now + limit
        self.clock.run(self.clock.now + least)
        while not self.violations:
            why = self.unsettled()
            if why is None or self.clock.now > end:
                return why
            self.clock.run(self.clock.now + 0.25)
        return None

    def bury(self) -> None:
        """End everything."""
        self.broker.on_fence = lambda transactional_id, process: None
        for process in [*self._gone, *(worker.process for worker in self.workers.values())]:
            self.violations += [f"{process.name}: {what}" for what in process.complaints]
            process.on_end = lambda why: None
            process.bury()
        self.clock.forget()


def _place(written: str) -> TopicPartition:
    topic, _, number = written.rpartition("/")
    return TopicPartition(topic, int(number))
