"""The two kinds of worker: the product's owners and views, started in a simulated process."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from stream_ensemble.fuser.owner import FuseOwner
from stream_ensemble.kafka.fenced_producer import FencedProducer
from stream_ensemble.learner.owner import LearnOwner
from stream_ensemble.stores.weights_topic import read_topic
from stream_ensemble.stores.weights_view import WeightsView
from tests.simulation import settings
from tests.simulation.consumer import SimulatedConsumer
from tests.simulation.loop import Crashed
from tests.simulation.network import Process
from tests.simulation.stores import RedisClient
from tests.simulation.traffic import SEGMENTS

_POLL_S = 1.0
#: One less than there are, so that some are dropped and read again.
_SEGMENTS_HELD = len(SEGMENTS) - 1


class Worker(ABC):
    """One process and what runs in it."""

    consumer: SimulatedConsumer
    owner: Any

    def __init__(self, world: Any, process: Process) -> None:
        self.world = world
        self.process = process
        process.call_soon(self._start)

    def _start(self) -> None:
        self.run(self._main())

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something for the life of the process; what it raises ends it, and is a violation."""
        self.process.create_task(self._watched(work))

    async def _watched(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except (asyncio.CancelledError, Crashed):
            raise
        except BaseException as error:
            self._die("a task of a worker failed", error)

    def _die(self, what: str, error: BaseException) -> NoReturn:
        """As ``worker.die``."""
        if not self.process.dead:
            self.world.violation(f"{self.process.name}: {what}: {error!r}", error)
            self.process.crash("an error of its own")
        raise Crashed

    async def _main(self) -> None:
        await self._begin()
        for work in (self.consumer.belong, self.consumer.fetch, self._agent):
            self.run(work())

    @abstractmethod
    async def _begin(self) -> None:
        """What the app does before it joins the group."""

    @abstractmethod
    async def _agent(self) -> None:
        """What the app's agent does with what is fetched."""

    async def stop(self) -> None:
        """As SIGTERM: finish, commit, leave."""
        await self.owner.drain()
        await self.consumer.keep()
        member = self.consumer.inner._coordinator.member_id
        await self.process.ask(self.consumer.group.leave, member)
        self.process.crash("stopped in order")


class Fuser(Worker):
    """A fuse worker."""

    owner: FuseOwner
    view: WeightsView
    producer: FencedProducer

    async def _begin(self) -> None:
        world, process = self.world, self.process
        template = settings.fused(world.variant)
        options = {"world": world}
        of_variant = settings.transacted if world.transacted else settings.settings
        whole = of_variant(world.variant)
        self.view = WeightsView(
            RedisClient(process, world.redis),
            template.algorithm,
            task=template.config.task.name,
            partitions=settings.PARTITIONS,
            read_log=lambda: read_topic(
                options, settings.topics(world.variant).weights, settings.PARTITIONS, 0
            ),
            poll_interval_s=_POLL_S,
            segments=_SEGMENTS_HELD,
            clock=process.time,
        )
        ensemble = replace(template, weights=self.view)
        app = SimpleNamespace(owner=None, consumer=None)
        self.producer = FencedProducer(options, max_batch_bytes=whole.kafka.max_batch_bytes)
        app.owner = self.owner = FuseOwner(
            app,
            whole,
            [ensemble],
            self.producer,
            options,  # type: ignore[arg-type]
        )
        app.consumer = self.consumer = SimulatedConsumer(
            process, world.broker, world.fusers, app, ensemble.inputs
        )
        await self.producer.start([])
        await self.view.start()
        self.run(self.owner.keep_time())
        self.run(self.consumer.keep_regularly())

    async def _agent(self) -> None:
        while True:
            chunks, generation = await self.consumer.next()
            await self.owner.process(chunks, generation)
            self.world.look_at(self)


class Learner(Worker):
    """A learn worker."""

    owner: LearnOwner

    async def _begin(self) -> None:
        world, process = self.world, self.process
        template = settings.learned(world.variant)
        ensemble = replace(template, options={"world": world}, data_dir=Path(process.name))
        store = RedisClient(process, world.redis)
        app = SimpleNamespace(owner=None, consumer=None)
        topics = (ensemble.topics.fused, ensemble.topics.feedback)
        app.consumer = self.consumer = SimulatedConsumer(process, world.broker, world.learners, app, topics)
        app.owner = self.owner = LearnOwner(
            lambda: self.consumer,
            [ensemble],
            {ensemble.name: store},
            closing_limit_s=1.0,
            on_fault=self._die,
        )

    async def _agent(self) -> None:
        while True:
            chunks, generation = await self.consumer.next()
            for chunk in chunks:
                await self.owner.process(chunk, generation)


#: By role.
KINDS: dict[str, Callable[[Any, Process], Worker]] = {"fuse": Fuser, "learn": Learner}
