"""Sending a control record to every partition, and waiting until its owners have applied it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient

from stream_ensemble.cli.weights.live import Live, log_reader
from stream_ensemble.config import Settings
from stream_ensemble.core.learning.control import MEMBERS
from stream_ensemble.kafka.admin import admin_client
from stream_ensemble.kafka.group_owners import owners_of
from stream_ensemble.kafka.tail import LogReader
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.messages import Control
from stream_ensemble.sdk.producing import Record, TopicProducer
from stream_ensemble.stores.weights_topic import PartitionLog

_ASK_AGAIN_S = 0.1
#: How often the group is asked who owns what, and how long a partition may be nobody's until that is said:
#: longer than a worker takes from starting to owning.
_LOOK_S = 1.0
_NOBODY_S = 5.0


@dataclass(frozen=True, slots=True)
class Ordered:
    """What became of a control record.

    Attributes:
        control: as it was sent.
        applied: partitions whose owner has applied it.
        left: by partition that has not, why.
        seconds: how long that took.
    """

    control: Control
    applied: list[int]
    left: dict[int, str]
    seconds: float


def new_control(live: Live, action: str, **fields: Any) -> Control:
    """A control record after all that are known."""
    return msgspec.convert(
        {
            "version": 1,
            "kind": "control",
            "number": live.controls.number + 1,
            "id": uuid.uuid4().hex,
            "action": action,
            "at": round(time.time() * 1000),
            **fields,
        },
        Control,
    )


async def send(settings: Settings, ensemble: LearnedEnsemble, control: Control, wait_s: float) -> Ordered:
    """Send ``control`` to every partition and wait, at most ``wait_s``, until all owners have applied it.

    Raises:
        ServerUnavailableError, TopologyError, RefusedError: it could not be sent, or nothing can be read.
    """
    partitions = range(ensemble.config.partitions)
    async with (
        log_reader(settings, ensemble, ensemble.topics.weights) as reader,
        admin_client(settings.kafka) as admin,
    ):
        producer = TopicProducer(settings.kafka, ensemble.topics.feedback, len(partitions))
        await producer.start()
        try:
            value = msgspec.json.encode(control)
            await producer.send([Record(None, value, [], p) for p in partitions])
        finally:
            await producer.stop()
        return await _applied(ensemble, control, reader, admin, wait_s)


async def _applied(
    ensemble: LearnedEnsemble,
    control: Control,
    reader: LogReader,
    admin: AIOKafkaAdminClient,
    wait_s: float,
) -> Ordered:
    logs = {p: PartitionLog(ensemble.weights(p)) for p in range(ensemble.config.partitions)}
    clock = asyncio.get_running_loop().time
    began = clock()
    waiting, owners = set(logs), _Owners(admin, ensemble)
    while waiting:
        for p in sorted(waiting):
            await logs[p].read_on(reader)
        waiting = {p for p in waiting if not _has(logs[p], control)}
        await owners.look(clock())
        if clock() - began > wait_s or (waiting and waiting <= owners.nobodys(clock())):
            break
        await asyncio.sleep(_ASK_AGAIN_S if waiting else 0)
    left = {p: owners.why(p, wait_s) for p in sorted(waiting)}
    return Ordered(control, sorted(logs.keys() - waiting), left, clock() - began)


def _has(log: PartitionLog, control: Control) -> bool:
    """Has the partition's owner applied it, or one after it?"""
    controls = log.controls
    if controls is None or (controls.state.number, controls.state.id) < (control.number, control.id):
        return False
    if control.action == "reset":
        return controls.order.generation >= (control.generation or 0)
    if control.action in MEMBERS:
        stamp = (control.number, control.id)
        return any(
            one.member == control.member and (one.number, one.id) >= stamp for one in controls.state.members
        )
    about = (control.by, control.segment)
    # Another record of the same number may have come first: only what is about the same counts.
    return any(
        (pin.by, pin.segment) == about and (pin.number, pin.id) >= (control.number, control.id)
        for pin in controls.state.pins
    )


class _Owners:
    """Who owns which partition, and since when some are nobody's."""

    def __init__(self, admin: AIOKafkaAdminClient, ensemble: LearnedEnsemble) -> None:
        self._admin = admin
        self._ensemble = ensemble
        self._looked_at = float("-inf")
        self._known: Mapping[int, str] = {}
        self._nobodys: dict[int, float] = {}

    async def look(self, now: float) -> None:
        if now - self._looked_at < _LOOK_S:
            return
        self._looked_at = now
        found = await owners_of(self._admin, self._ensemble.group_id, self._ensemble.topics.feedback)
        if found is None:
            # The group is deciding: whatever comes of it counts from then on.
            self._nobodys.clear()
            return
        self._known = found
        unowned = set(range(self._ensemble.config.partitions)) - found.keys()
        self._nobodys = {p: self._nobodys.get(p, now) for p in unowned}

    def nobodys(self, now: float) -> set[int]:
        """Partitions that have had no owner for so long that none is coming."""
        return {p for p, since in self._nobodys.items() if now - since >= _NOBODY_S}

    def why(self, p: int, wait_s: float) -> str:
        owner = self._known.get(p)
        if owner is None:
            return "nobody owns it; a learn worker applies it when it takes the partition over"
        return f"its owner ({owner}) has not applied it within {wait_s:g} s; it will when it comes to it"
