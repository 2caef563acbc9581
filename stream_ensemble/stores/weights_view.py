"""The weights as a fuser sees them: kept fresh from Redis, never lost with it.

The hot path reads two attributes (``current``, ``degraded``); everything that can wait or fail runs in a
task of its own, with every wait bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any

from stream_ensemble.config import Settings, everyone, topic_names
from stream_ensemble.core.learning.additive import Additive
from stream_ensemble.core.learning.choose import LEARN_NOTHING, make
from stream_ensemble.core.learning.membership import membership
from stream_ensemble.core.learning.segment_mixture import SegmentMixture
from stream_ensemble.errors import ServerUnavailableError, StreamEnsembleError
from stream_ensemble.kafka.security import client_options
from stream_ensemble.stores import background
from stream_ensemble.stores.contributions import ContributionStore, Key, Marker, Snapshot, Stored
from stream_ensemble.stores.control_state import CONTROLS
from stream_ensemble.stores.credit_snapshot import CreditSnapshot, Pool
from stream_ensemble.stores.held_segments import HeldSegments
from stream_ensemble.stores.joined import JoinedContributions
from stream_ensemble.stores.pinned import Pins
from stream_ensemble.stores.redis_contributions import RedisContributionStore
from stream_ensemble.stores.redis_keys import RedisKeys
from stream_ensemble.stores.weights_topic import read_topic

log = logging.getLogger(__name__)

#: Reads the weights topic to its end: every partition's newest contribution to every key.
ReadLog = Callable[[], Awaitable[Iterable[tuple[Key, int, Stored]]]]

_LISTEN_AGAIN_S = 1.0
#: How long Redis may lack an owner's marker before it is said: an owner looks every second.
_PATIENCE_S = 3.0
#: How long a start without Redis may take to read the weights topic.
_READ_LOG_S = 20.0
#: Segments read in one call: pooling what four partitions learned of one takes .2 to .5 ms, and fusing waits.
_READ_AT_ONCE = 8
#: Cold segments asked for in one look: more than an owner brings back in the same time.
_WANTED_AT_ONCE = 256


class WeightsView:
    """What a fuser fuses with.

    ``start()`` first; then ``current()``, ``of_segment()`` and ``degraded`` at any time from the same event
    loop.

    Args:
        store: where the owners publish; the view closes it.
        algorithm: turns the joined contributions into credit.
        task: name of the task.
        partitions: how many owners there are.
        read_log: reads the weights topic, for a start without Redis; None: start with nothing learned
            instead.
        poll_interval_s: how often Redis is looked at, and the least time between two adoptions.
        segments: most segments held at a time.
        shadows: how many of the algorithm's last members the settings have in shadow.
        clock: monotonic seconds.

    Attributes:
        segments: what is held of segments.
        degraded: None, or one word on why the weights may be older than a second: ``redis-away``,
            ``redis-incomplete`` (an owner has not completed its fields) or ``redis-damaged``.
        detail: the same in one line a person understands.
    """

    def __init__(
        self,
        store: ContributionStore,
        algorithm: Additive[Any],
        *,
        task: str,
        partitions: int,
        read_log: ReadLog | None = None,
        poll_interval_s: float = 0.25,
        segments: int = 0,
        shadows: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.degraded: str | None = None
        self.detail: str | None = None
        self.segments = HeldSegments(
            SegmentMixture(algorithm), task=task, partitions=partitions, most=segments
        )
        self._store = store
        self._key = Key(task)
        self._joined = JoinedContributions(partitions)
        begin = len(algorithm.members) - shadows
        self._members, self._shadows = algorithm.members[:begin], algorithm.members[begin:]
        self._pool = Pool(algorithm)
        self._pins = Pins(algorithm)
        self._read_log = read_log
        self._poll_interval_s = poll_interval_s
        self._clock = clock
        self._current = self._pool.snapshot({})
        self._seen: dict[int, Marker] | None = None
        self._adopted_at = float("-inf")
        self._incomplete_since: float | None = None
        self._hint = asyncio.Event()
        self._wanted = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def current(self) -> CreditSnapshot:
        """The weights in use for the whole. A plain read: the same object until new ones are adopted."""
        return self._current

    def of_segment(self, segment: str) -> CreditSnapshot | None:
        """The weights in use for a segment, to be mixed with those of the whole; None: it has none.

        A plain read too: one that is not held is answered as if it had learned nothing, and read by a task.
        """
        snapshot = self.segments.current(segment)
        if self.segments.wanted:
            self._wanted.set()
        return snapshot

    async def start(self) -> None:
        """Read the weights once (from Redis, and from the weights topic if Redis lacks any), then keep them
        fresh.

        Never raises for a server that is away: it says so in ``degraded`` and goes on trying.
        """
        await self.refresh()
        if self._unknown() and self._read_log is not None:
            await self._restore(self._read_log)
        self._tasks = [
            asyncio.create_task(self._keep_fresh(), name="weights view"),
            asyncio.create_task(self._listen(), name="weights hints"),
            asyncio.create_task(self._read_segments(), name="weights of segments"),
        ]

    async def stop(self) -> None:
        """End the tasks and close the store. The last weights stay readable."""
        await background.end(self._tasks)
        self._tasks.clear()
        await self._store.close()

    async def refresh(self) -> None:
        """Look at Redis once and adopt what is new; on failure keep everything and set ``degraded``."""
        try:
            snapshot = await self._look()
        except StreamEnsembleError as error:
            self._say("redis-away", f"{error}; fusing with the last known weights")
            return
        except Exception as error:
            # Whatever a client library raises here must not reach the fuser, which can do without.
            log.exception("reading the weights failed")
            self._say("redis-away", f"reading the weights failed: {error!r}")
            return
        if snapshot is not None and self._joined.take_snapshot(snapshot):
            self._adopt()
        damaged = [
            *(snapshot.damaged.values() if snapshot else ()),
            *self._pool.refused.values(),
            *self.segments.damaged.values(),
            *self._pins.refused,
        ]
        missing = self._missing()
        if damaged:
            self._say("redis-damaged", f"Redis holds damaged weights, which are not used: {damaged[0]}")
        elif missing:
            detail = f"no learner has completed the weights of partitions {sorted(missing)} in Redis"
            self._say("redis-incomplete", f"{detail}; fusing with the last known ones")
        else:
            self._say(None, None)

    async def _look(self) -> Snapshot | None:
        """The fields if any marker has changed since they were read; else None."""
        markers = await self._store.markers()
        if not markers.damaged and markers.markers == self._seen and not self._unknown():
            return None
        snapshot = await self._store.read([self._key, CONTROLS])
        self.segments.changed()
        self._seen = dict(snapshot.markers) if not snapshot.damaged else None
        return snapshot

    def _unknown(self) -> frozenset[int]:
        return self._joined.unknown(self._key) | self._joined.unknown(CONTROLS)

    def _adopt(self) -> None:
        self._pins.take(self._joined.fields(CONTROLS))
        learned = self._pool.snapshot(self._joined.fields(self._key))
        generation, counted = learned.version.generation, learned.counted
        who = membership(self._pins.state, self._members, self._shadows, generation, counted)
        self._current = replace(learned, pins=self._pins, membership=who)
        self._adopted_at = self._clock()
        self.segments.begin(self._current.version.generation)

    def _missing(self) -> frozenset[int]:
        """Partitions without a complete marker, once it is more than an owner writing again."""
        missing = self._joined.unmarked
        if not missing:
            self._incomplete_since = None
            return missing
        now = self._clock()
        if self._incomplete_since is None:
            self._incomplete_since = now
        known = not self._unknown()
        return frozenset() if known and now - self._incomplete_since < _PATIENCE_S else missing

    def _say(self, degraded: str | None, detail: str | None) -> None:
        if degraded != self.degraded:
            log.log(
                logging.WARNING if degraded else logging.INFO, "%s", detail or "the weights are fresh again"
            )
        self.degraded, self.detail = degraded, detail

    async def _restore(self, read_log: ReadLog) -> None:
        try:
            records = await read_log()
        except Exception:
            # A fuser can start with nothing learned; without an answer its users cannot.
            log.exception("the weights topic could not be read; starting with what Redis holds")
            return
        records = list(records)
        if self._joined.take_log(record for record in records if record[0] in (self._key, CONTROLS)):
            self._adopt()
        self.segments.take_log(records)

    async def _keep_fresh(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_interval_s):
                    await self._hint.wait()
            self._hint.clear()
            since = self._clock() - self._adopted_at
            if since < self._poll_interval_s:
                await asyncio.sleep(self._poll_interval_s - since)
            await self.refresh()

    async def _read_segments(self) -> None:
        """Read segments that are asked for, then those that may be old, beside everything else."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_interval_s):
                    await self._wanted.wait()
            self._wanted.clear()
            if not await self.refresh_segments():
                # Asking again at once would change nothing.
                await asyncio.sleep(self._poll_interval_s)

    async def refresh_segments(self) -> bool:
        """Read what is wanted and what may be old, and ask for what is cold.

        Returns whether all of it but what is cold is held and fresh now.
        """
        if not await self._ask_for_cold():
            return False
        while keys := self.segments.to_read(_READ_AT_ONCE):
            asked = self.segments.round
            try:
                snapshot = await self._store.read(keys)
            except StreamEnsembleError:
                return False  # said by refresh(), which asks the same server
            except Exception:
                log.exception("reading the weights of segments failed")
                return False
            complete = frozenset(p for p, marker in snapshot.markers.items() if marker.complete)
            began = time.perf_counter()
            if self.segments.take(snapshot, complete, asked):
                return False
            # A fifth of the time at most: fusing goes first.
            await asyncio.sleep(4 * (time.perf_counter() - began))
        return True

    async def _ask_for_cold(self) -> bool:
        """Ask the owners for segments that were cold when they were read; returns whether Redis answers."""
        keys = self.segments.cold(_WANTED_AT_ONCE)
        try:
            if keys:
                await self._store.want(keys)
        except StreamEnsembleError:
            return False  # said by refresh(), which asks the same server
        return True

    async def _listen(self) -> None:
        while True:
            try:
                async for _ in self._store.changes():
                    self._hint.set()
            except ServerUnavailableError:
                pass  # said by refresh(), which asks the same server
            await asyncio.sleep(_LISTEN_AGAIN_S)


def view_of(settings: Settings, name: str) -> WeightsView:
    """The view of ensemble ``name`` of the settings. Can be made before a loop runs; nothing connects until
    ``start``.

    Raises:
        SettingsError: a TLS file is missing or cannot be used.
    """
    config = settings.ensembles[name]
    weights = topic_names(name, config).weights
    segments = 0 if config.learning.algorithm in LEARN_NOTHING else config.learning.segments

    async def read_log() -> Iterable[tuple[Key, int, Stored]]:
        async with asyncio.timeout(_READ_LOG_S):
            return await read_topic(client_options(settings.kafka), weights, config.partitions, segments)

    return WeightsView(
        RedisContributionStore(settings.redis, RedisKeys(settings.app, name)),
        make(config.learning, config.task, everyone(config)),
        task=config.task.name,
        partitions=config.partitions,
        read_log=read_log,
        poll_interval_s=settings.redis.poll_interval_ms / 1000,
        segments=segments,
        shadows=len(config.shadows),
    )
