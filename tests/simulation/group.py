"""A consumer group: members, generations, who owns which partition number, sessions that expire."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka.structs import TopicPartition

from tests.simulation.broker import Broker, Committed
from tests.simulation.network import Process

SESSION_S = 1.0
REBALANCE_S = 2.0
#: A member hears of a rebalance with its next heartbeat.
_HEARTBEAT_S = 0.2
#: With no member away the coordinator waits a moment for others to join.
_GATHER_S = 0.05


class Member:
    """A process as the coordinator knows it."""

    def __init__(self, process: Process, member_id: str) -> None:
        self.process = process
        self.member_id = member_id
        self.joining: asyncio.Future[Any] | None = None
        #: The one of its last request to join, also after it was answered.
        self.asked: asyncio.Future[Any] | None = None
        #: Told to the member once: it has to join again.
        self.notice: Callable[[bool], None] = lambda kicked: None


class Group:
    """The coordinator's side of one group; partition numbers are dealt out at random."""

    def __init__(self, name: str, numbers: int, broker: Broker, rng: random.Random) -> None:
        self.name = name
        self.generation = 0
        self.members: dict[str, Member] = {}
        self.owner_of: dict[int, str] = {}
        self._numbers = numbers
        self._broker = broker
        self._clock = broker.clock
        self._rng = rng
        self._count = 0
        self._rebalancing = False
        self._round = 0

    # --- requests -----------------------------------------------------------------------------------

    def join(
        self, process: Process, member_id: str, notice: Callable[[bool], None], done: asyncio.Future[Any]
    ) -> None:
        """A member is ready for the next generation; ``done`` gets (member id, generation, numbers)."""
        if any(member.asked is done for member in self.members.values()):
            # Sent again, as it seemed lost: the answer is on its way or will be.
            return
        member = self.members.get(member_id)
        if member is None:
            # One that asked before and never heard its name is the same.
            for other in [one for one in self.members.values() if one.process is process]:
                del self.members[other.member_id]
            self._count += 1
            member = Member(process, f"{process.name}#{self._count}")
            self.members[member.member_id] = member
        member.notice = notice
        member.joining = member.asked = done
        if process.dead:
            self.silent(process)
        self.rebalance()
        self._clock.at(self._clock.now + _GATHER_S, None, self._try_complete, self._round)

    def leave(self, member_id: str) -> None:
        """A member goes in order."""
        if self.members.pop(member_id, None) is not None:
            self.rebalance()

    def heartbeat(self, member_id: str, generation: int) -> int:
        """Kafka's error code: 0, UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION or REBALANCE_IN_PROGRESS."""
        if member_id not in self.members:
            return 25
        if generation != self.generation:
            return 22
        return 27 if self._rebalancing else 0

    def commit(self, member_id: str, generation: int, offsets: Mapping[TopicPartition, int]) -> bool:
        """Offsets of a member of this generation; False: refused."""
        if member_id not in self.members or generation != self.generation:
            return False
        for tp, offset in offsets.items():
            self._broker.commit(self.name, tp, Committed(offset, ""))
        return True

    # --- the coordinator ----------------------------------------------------------------------------

    def rebalance(self) -> None:
        """Call everybody together, unless that is under way."""
        if self._rebalancing:
            return
        self._rebalancing = True
        self._round += 1
        for member in self.members.values():
            if member.joining is None:
                self._notify(member, kicked=False)
        self._clock.at(self._clock.now + REBALANCE_S, None, self._give_up_waiting, self._round)
        self._clock.at(self._clock.now + _GATHER_S, None, self._try_complete, self._round)

    def _notify(self, member: Member, *, kicked: bool) -> None:
        wait = self._rng.random() * _HEARTBEAT_S
        self._clock.at(self._clock.now + wait, member.process, member.notice, kicked)

    def silent(self, process: Process) -> None:
        """Nothing is heard of a process from now on: its session ends unless it is heard again."""
        for member in list(self.members.values()):
            if member.process is process:
                self._clock.at(self._clock.now + SESSION_S, None, self._expire, member)

    def _expire(self, member: Member) -> None:
        process = member.process
        if self.members.get(member.member_id) is not member:
            return
        if process.dead or process.stalled is not None or process.cut:
            del self.members[member.member_id]
            if not process.dead:
                # It will hear of that with its first heartbeat that is answered.
                self._tell_when_back(member)
            self._rebalancing = False
            self.rebalance()

    def _tell_when_back(self, member: Member) -> None:
        if member.process.cut and not member.process.dead:
            self._clock.at(self._clock.now + _HEARTBEAT_S, None, self._tell_when_back, member)
        else:
            self._notify(member, kicked=True)

    def _give_up_waiting(self, number: int) -> None:
        if not self._rebalancing or number != self._round:
            return
        for member in list(self.members.values()):
            if member.joining is None:
                del self.members[member.member_id]
                self._tell_when_back(member)
        self._complete()

    def _try_complete(self, number: int) -> None:
        current = self._rebalancing and number == self._round
        if current and self.members and all(m.joining is not None for m in self.members.values()):
            self._complete()

    def _complete(self) -> None:
        self._rebalancing = False
        self.generation += 1
        names = list(self.members)
        self._rng.shuffle(names)
        self.owner_of = {}
        if not names:
            return
        for number in range(self._numbers):
            # Balanced as a rule; not always, so that one has everything and one has nothing.
            name = names[number % len(names)] if self._rng.random() < 0.8 else self._rng.choice(names)
            self.owner_of[number] = name
        for name, member in self.members.items():
            done, member.joining = member.joining, None
            numbers = [number for number, owner in self.owner_of.items() if owner == name]
            wait = 0.001 + self._rng.random() * 0.02
            answer = (name, self.generation, numbers)
            self._clock.at(self._clock.now + wait, member.process, _answer, done, answer)


def _answer(done: asyncio.Future[Any], answer: Any) -> None:
    if not done.done():
        done.set_result(answer)
