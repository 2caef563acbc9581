"""What each fault does, for how long, and how it ends; a target that another fault has is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import redis

from tests.chaos.schedule import Event
from tests.chaos.workers import App, Slot, ended_in_order

if TYPE_CHECKING:
    from tests.chaos.world import World

Fault = Callable[["World", Event], Awaitable[None]]


def _pick(world: World, event: Event, app: App) -> Slot:
    slots = world.fleet.of(app)
    return slots[event.target % len(slots)]


# --- workers ------------------------------------------------------------------------------------------


def _kill(app: App) -> Fault:
    async def act(world: World, event: Event) -> None:
        slot = _pick(world, event, app)
        async with slot.busy:
            await slot.kill()
            await asyncio.sleep(event.lasts_s)
            slot.start()

    return act


def _term(app: App) -> Fault:
    async def act(world: World, event: Event) -> None:
        slot = _pick(world, event, app)
        async with slot.busy:
            status = await slot.term()
            world.fleet.terminated.append((slot.name, status))
            if not ended_in_order(status):
                world.note(f"{slot.name} did not end in order after SIGTERM: status {status}")
            await asyncio.sleep(event.lasts_s)
            slot.start()

    return act


def _freeze(app: App) -> Fault:
    async def act(world: World, event: Event) -> None:
        slot = _pick(world, event, app)
        async with slot.busy:
            slot.pause()
            try:
                await asyncio.sleep(event.lasts_s)
            finally:
                slot.resume()

    return act


def _add(app: App) -> Fault:
    async def act(world: World, event: Event) -> None:
        slot = world.fleet.add(app)
        async with slot.busy:
            slot.start()
            await asyncio.sleep(event.lasts_s)
            status = await slot.term()
            world.fleet.terminated.append((slot.name, status))

    return act


async def _all_down(world: World, event: Event) -> None:
    slots = list(world.fleet.slots)
    for slot in slots:
        await slot.busy.acquire()
    try:
        stopped = [slot for slot in slots if slot.worker is not None]
        # Half of them in order, half without a word.
        await asyncio.gather(
            *(slot.term() if (n + event.target) % 2 else slot.kill() for n, slot in enumerate(stopped))
        )
        await asyncio.sleep(event.lasts_s)
        for slot in stopped:
            slot.start()
    finally:
        for slot in slots:
            slot.busy.release()


async def _delete_disk(world: World, event: Event) -> None:
    slot = _pick(world, event, "learn")
    async with slot.busy:
        await slot.kill()
        slot.delete_disk()
        await asyncio.sleep(event.lasts_s)
        slot.start()


async def _wrong_clock(world: World, event: Event) -> None:
    slot = _pick(world, event, "learn" if event.target % 3 == 0 else "fuse")
    async with slot.busy:
        await slot.kill()
        slot.start(skew_s=30.0 if event.target % 2 else -30.0, jump_after_s=event.lasts_s / 2)
    # It goes on with the wrong clock until something else restarts it.
    await asyncio.sleep(event.lasts_s)


# --- Redis --------------------------------------------------------------------------------------------


async def _stop_redis(world: World, event: Event) -> None:
    async with world.redis_busy:
        await asyncio.to_thread(world.redis.kill if event.target % 2 else world.redis.stop)
        await asyncio.sleep(event.lasts_s)
        await asyncio.to_thread(world.redis.start)


async def _flush_redis(world: World, event: Event) -> None:
    async with world.redis_busy:
        await asyncio.to_thread(_ask_redis, world, "FLUSHALL")


async def _script_fails(world: World, event: Event) -> None:
    """The script begins and its first write is refused: no memory. And it is forgotten as well."""
    async with world.redis_busy:
        await asyncio.to_thread(_ask_redis, world, "CONFIG", "SET", "maxmemory", "1")
        await asyncio.to_thread(_ask_redis, world, "SCRIPT", "FLUSH")
        await asyncio.sleep(event.lasts_s)
        await asyncio.to_thread(_ask_redis, world, "CONFIG", "SET", "maxmemory", "0")


async def _script_unanswered(world: World, event: Event) -> None:
    """Scripts run and nobody hears of it."""
    world.redis_proxy.deaf = True
    await asyncio.sleep(event.lasts_s)
    world.redis_proxy.heal()


def _ask_redis(world: World, *words: str) -> None:
    with redis.Redis("127.0.0.1", world.redis.port, socket_timeout=5) as client:
        client.execute_command(*words)


# --- network ------------------------------------------------------------------------------------------


async def _cut(world: World, event: Event) -> None:
    proxies = [*world.brokers.proxies, world.redis_proxy]
    chosen = proxies if event.target % 2 else proxies[: max(1, len(proxies) // 2)]
    for proxy in chosen:
        proxy.refusing = True
        proxy.cut()
    await asyncio.sleep(event.lasts_s)
    for proxy in chosen:
        proxy.heal()


async def _slow(world: World, event: Event) -> None:
    for proxy in (*world.brokers.proxies, world.redis_proxy):
        proxy.delay_s = 0.05 + 0.3 * (event.target % 10) / 10
    await asyncio.sleep(event.lasts_s)
    for proxy in (*world.brokers.proxies, world.redis_proxy):
        proxy.heal()


# --- brokers ------------------------------------------------------------------------------------------


def _broker_away(how: str) -> Fault:
    async def act(world: World, event: Event) -> None:
        node = world.brokers.nodes[event.target % len(world.brokers.nodes)]
        async with world.broker_busy:
            await asyncio.to_thread(node.kill if how == "kill" else node.stop)
            await asyncio.sleep(event.lasts_s)
            await asyncio.to_thread(node.start)

    return act


async def _freeze_broker(world: World, event: Event) -> None:
    """Its partitions get other leaders; it comes back and believes it leads."""
    node = world.brokers.nodes[event.target % len(world.brokers.nodes)]
    async with world.broker_busy:
        node.pause()
        try:
            await asyncio.sleep(event.lasts_s)
        finally:
            node.resume()


async def _rolling_restart(world: World, event: Event) -> None:
    async with world.broker_busy:
        for node in world.brokers.nodes:
            await asyncio.to_thread(node.stop)
            await asyncio.to_thread(node.start)
            await world.in_sync()
            await asyncio.sleep(event.lasts_s)


# --- traffic ------------------------------------------------------------------------------------------


async def _silent_member(world: World, event: Event) -> None:
    world.traffic.silent = world.members[event.target % len(world.members)]
    await asyncio.sleep(event.lasts_s)
    world.traffic.silent = None


async def _flood(world: World, event: Event) -> None:
    world.traffic.flooding = True
    await asyncio.sleep(event.lasts_s)
    world.traffic.flooding = False


FAULTS: dict[str, Fault] = {
    "kill-fuser": _kill("fuse"),
    "kill-learner": _kill("learn"),
    "term-fuser": _term("fuse"),
    "term-learner": _term("learn"),
    "freeze-fuser": _freeze("fuse"),
    "freeze-learner": _freeze("learn"),
    "add-fuser": _add("fuse"),
    "add-learner": _add("learn"),
    "all-workers-down": _all_down,
    "delete-disk": _delete_disk,
    "wrong-clock": _wrong_clock,
    "stop-redis": _stop_redis,
    "restart-redis": _stop_redis,
    "flush-redis": _flush_redis,
    "redis-script-fails": _script_fails,
    "redis-script-unanswered": _script_unanswered,
    "cut-connections": _cut,
    "slow-connections": _slow,
    "stop-broker": _broker_away("stop"),
    "kill-broker": _broker_away("kill"),
    "freeze-broker": _freeze_broker,
    "rolling-restart": _rolling_restart,
    "silent-member": _silent_member,
    "flood-of-duplicates": _flood,
}
