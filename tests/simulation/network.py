"""Requests of a process to a server: they take time, may arrive without being answered, and are cut off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from aiokafka import errors as kafka_errors

from tests.simulation.effects import LOST, Effects
from tests.simulation.loop import Clock, ProcessLoop

_AGAIN_S = 0.1


class Process(ProcessLoop):
    """A worker process on a host, with its connections.

    Attributes:
        cut: no connection to Kafka works; ``cut_redis`` the same for Redis.
        accepted_at: when a heartbeat of it was last accepted.
        world: what it runs in.
        on_end: called once when it crashed or ended.
    """

    world: Any

    def __init__(
        self, clock: Clock, name: str, role: str, effects: Effects, rng: random.Random, began: float
    ) -> None:
        super().__init__(clock, name, began)
        self.role = role
        self.effects = effects
        self.rng = rng
        self.cut = False
        self.cut_redis = False
        self.accepted_at = -1.0
        self.on_end: Callable[[str], None] = lambda why: None

    def crash(self, why: str = "") -> None:
        """See ``ProcessLoop``."""
        if not self.dead:
            super().crash()
            self.on_end(why)

    def once(
        self, effect: str | None, detail: Any, act: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """One request to Kafka: ``act``, an effect of that name or none, happens when it arrives.

        Raises:
            KafkaConnectionError: it is not known whether it arrived.
        """
        future = self.create_future()
        clock, rng = self.clock, self.rng
        if self.dead:
            return future
        if self.cut:
            self.call_later(0.05, _fail, future, kafka_errors.KafkaConnectionError("no connection"))
        else:
            there = clock.now + 0.001 + rng.random() * 0.008
            clock.at(there, None, self._arrive, future, effect, detail, act, args)
        return future

    def _arrive(
        self, future: asyncio.Future[Any], effect: str | None, detail: Any, act: Callable[..., Any], args: Any
    ) -> None:
        # Of what a process had sent when it crashed some is lost with it.
        if self.dead and self.rng.random() < 0.5:
            return
        result = act(*args) if effect is None else self.effects.do(self, effect, detail, act, *args)
        if result is LOST or self.dead:
            return
        back = self.clock.now + 0.001 + self.rng.random() * 0.008
        self.clock.at(back, self, self._answer, future, result)

    def _answer(self, future: asyncio.Future[Any], result: Any) -> None:
        if self.cut:
            _fail(future, kafka_errors.KafkaConnectionError("connection lost"))
        elif not future.done():
            future.set_result(result)

    async def ask(
        self, act: Callable[..., Any], *args: Any, effect: str | None = None, detail: Any = ""
    ) -> Any:
        """The same again and again until it is answered, as aiokafka does."""
        while True:
            try:
                return await self.once(effect, detail, act, *args)
            except kafka_errors.KafkaConnectionError:
                await asyncio.sleep(_AGAIN_S)


def here() -> Process:
    """The process that runs now."""
    process = ProcessLoop.current
    assert process is not None, "nothing of a process runs"
    return process  # type: ignore[return-value]


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        # Whoever asked may be gone; that is no news.
        future._log_traceback = False  # type: ignore[attr-defined]
