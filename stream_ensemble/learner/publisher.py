"""Keeps Redis' view of one partition as its owner knows it, whatever becomes of Redis.

Publishing is beside the learning: it may fail for days. What is offered is kept and offered again; once a
second the owner looks whether its marker and its fields still stand, and writes everything again if they do
not. In the same look it takes out the segments that have gone cold, and writes those that are wanted back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.learner.cooling import Cooling
from stream_ensemble.stores.contributions import (
    Change,
    ContributionStore,
    Key,
    Marker,
    Marking,
    Order,
    Snapshot,
)

log = logging.getLogger(__name__)

#: How many fields are looked at in one check; the others have their turn in the next.
_LOOKED_AT = 16
#: How many fields go out in one call: with a few KB each, well within a time-out.
_AT_ONCE = 500
#: How many segments one look takes out of Redis, and how many it brings back.
_COOLED, _BROUGHT_BACK = 2_000, 500
_LOWEST = Order(0, 0, 0)


class WeightsPublisher:
    """Publishes the contributions of one partition.

    Args:
        store: where to.
        on_overtaken: called with a larger order than ours that stands in Redis: either another owner has
        taken over
            or the topics were made anew. The caller finds out which by a transaction.
        check_interval_s: how often to look.
        cold_after_s: so long a segment stays in Redis that nobody labels or asks for; 0: for ever.

    Attributes:
        degraded: None, or one line on why Redis may not hold what was learned.
        cooling: which segments are cold, and which will be.
    """

    def __init__(
        self,
        store: ContributionStore,
        partition: int,
        *,
        on_overtaken: Callable[[Order], None],
        check_interval_s: float = 1.0,
        cold_after_s: float = 0.0,
    ) -> None:
        self.degraded: str | None = None
        self.cooling = Cooling(cold_after_s, lambda key: self._all[key].at)
        self._store = store
        self._partition = partition
        self._on_overtaken = on_overtaken
        self._check_interval_s = check_interval_s
        self._all: dict[Key, Change] = {}
        self._dirty: dict[Key, Change] = {}
        self._order = _LOWEST
        self._marked: Order | None = None
        self._again = False
        self._looked_at = 0
        self._wake = asyncio.Event()

    def offer(self, changes: Iterable[Change], order: Order) -> None:
        """Take new contributions; ``order`` is the partition's, not below any of theirs. Does not wait."""
        for change in changes:
            self._write_soon(change)
        self._order = order
        self._wake.set()

    def _write_soon(self, change: Change) -> None:
        new = change.key not in self._all
        self._all[change.key] = change
        self._dirty[change.key] = change
        self.cooling.warm(change.key, new=new)

    async def run(self) -> None:
        """Publish what is offered and look after it, until cancelled."""
        clock = asyncio.get_running_loop().time
        look_at = clock() + self._check_interval_s
        while True:
            await self.publish()
            try:
                async with asyncio.timeout_at(look_at):
                    await self._wake.wait()
                due = clock() >= look_at
            except TimeoutError:
                # Whatever the clock says: between it and ``look_at`` may be less than it can tell.
                due = True
            if due:
                await self.check()
                look_at = clock() + self._check_interval_s

    async def publish(self) -> None:
        """Write what has changed, then the marker; keep it for the next time if Redis is away."""
        self._wake.clear()
        changes, order = dict(self._dirty), self._order
        if not changes and self._marked == order and not self._again:
            return
        try:
            marking = await self._write(changes, order)
            if marking == "written":
                marking = await self._mark(order, complete=True)
        except ServerUnavailableError as error:
            self._say(str(error))
            return
        if marking == "lost":
            self._write_all_again()
        elif marking == "written":
            self._again = False
            self._say(None)

    async def _write(self, changes: Mapping[Key, Change], order: Order) -> Marking:
        """Write fields, the whole's first, so many at a time that no call is long.

        While all are being written again, which may take long, a marker says so: fusers go on with what they
        have and the newest weights of the whole, and another loss meanwhile is noticed.
        """
        keys = sorted(changes, key=lambda key: key.segment is not None)
        whole = [key for key in keys[:_LOOKED_AT] if key.segment is None]
        for begin in range(0, len(keys), _AT_ONCE):
            fresh = [self._dirty[key] for key in whole if begin and key in self._dirty]
            chunk = fresh + [changes[key] for key in keys[begin : begin + _AT_ONCE]]
            if not all(await self._store.publish(self._partition, self._cold_or_not(chunk))):
                await self._find_larger([change.key for change in chunk])
                return "overtaken"
            for change in chunk:
                if self._dirty.get(change.key) is change:
                    del self._dirty[change.key]
            if self._again and begin + _AT_ONCE < len(keys):
                marking = await self._mark(order, complete=False)
                if marking != "written":
                    return marking
        return "written"

    def _cold_or_not(self, changes: Sequence[Change]) -> Sequence[Change]:
        """As they are to stand in Redis: after a loss or a new owner most segments may be cold."""
        if not self.cooling.on:
            return changes
        now = _now_ms()
        return [replace(c, cold=True) if self.cooling.is_cold(c.key, now) else c for c in changes]

    async def _mark(self, order: Order, *, complete: bool) -> Marking:
        marking = await self._store.mark(self._partition, Marker(order, complete), after=self._marked)
        if marking == "written":
            self._marked = order
        elif marking == "overtaken":
            await self._find_larger([])
        return marking

    async def check(self) -> None:
        """Look whether the marker and some fields stand as written; if not, all are to be written again.
        Else look after what is cold.
        """
        # What is offered while Redis answers is not there yet, and not lost either.
        marked = self._marked
        try:
            seen = await self._store.own(self._partition, self._next_keys())
            await self._take_damaged_out(seen)
        except ServerUnavailableError as error:
            self._say(str(error))
            return
        self._say(None)
        for key, fields in seen.fields.items():
            if self._partition in fields:
                self.cooling.found(key)
        marker = seen.markers.get(self._partition)
        largest = seen.largest()
        if largest > self._order:
            self._on_overtaken(largest)
        elif marked is not None and (
            marker is None
            or marker.order < marked
            or not (marker.complete or self._again)
            or self._lacks(seen)
        ):
            self._write_all_again()
        elif marked is not None and not self._again:
            await self._look_after_cold()

    async def _look_after_cold(self) -> None:
        """Bring back what is wanted, and take out what nobody wants."""
        now = _now_ms()
        due: list[Key] = []
        try:
            wanted = await self._store.wanted()
            mine = (self._all[key] for key in wanted if key in self._all)
            for change in islice(mine, _BROUGHT_BACK):
                self._write_soon(replace(change, at=now))
                self._wake.set()
            due = self.cooling.due(now, _COOLED)
            while due:
                some = due[:_AT_ONCE]
                answers = await self._store.cool(some, self.cooling.before(now))
                for key, answer in zip(some, answers, strict=True):
                    self.cooling.looked(key, answer, now)
                del due[:_AT_ONCE]
        except ServerUnavailableError as error:
            self._say(str(error))
            for key in due:
                self.cooling.looked(key, None, now)

    def _write_all_again(self) -> None:
        log.warning("Redis lost weights of partition %d; writing all of them again", self._partition)
        self._marked = None
        self._again = True
        self._dirty = dict(self._all)
        self._wake.set()

    def _next_keys(self) -> Sequence[Key]:
        keys = list(self._all)
        begin = self._looked_at % len(keys) if keys else 0
        self._looked_at = begin + _LOOKED_AT
        return list(islice(keys, begin, begin + _LOOKED_AT))

    def _lacks(self, seen: Snapshot) -> bool:
        """Is a field missing or lower than what was written? Fields not written yet do not count."""
        for key in seen.fields:
            order = seen.order(key, self._partition)
            lower = order is None or order < self._all[key].order
            if lower and key not in self._dirty:
                return True
        return False

    async def _take_damaged_out(self, seen: Snapshot) -> None:
        for (key, partition), error in seen.damaged.items():
            log.warning("Redis holds a damaged value, which is written again: %s", error)
            await self._store.remove_damaged(key, partition)

    async def _find_larger(self, keys: Sequence[Key]) -> None:
        """Redis kept a larger order than ours: say so, unless it was a damaged value."""
        seen = await self._store.own(self._partition, keys)
        await self._take_damaged_out(seen)
        largest = seen.largest()
        if largest > self._order:
            self._on_overtaken(largest)

    def _say(self, degraded: str | None) -> None:
        if degraded != self.degraded:
            log.log(logging.INFO if degraded is None else logging.WARNING, "%s", degraded or "Redis is back")
        self.degraded = degraded


def _now_ms() -> int:
    return round(time.time() * 1000)
