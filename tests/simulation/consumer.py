"""A group member's consumer: the product's ``ChunkConsumer`` on simulated fetches and a coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import CommitFailedError, KafkaError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition
from faust.types import TP

from stream_ensemble.kafka.chunks import Chunk
from stream_ensemble.kafka.end_proofs import READ_COMMITTED, EndProofs
from stream_ensemble.kafka.fetching import ChunkFetcher, _ObservedClient
from stream_ensemble.kafka.transport import ChunkConsumer
from tests.simulation.broker import Broker
from tests.simulation.group import Group
from tests.simulation.leading import NOT_LEADING, Nodes, busy
from tests.simulation.network import Process

_COMMIT_S = 0.5
_QUEUE = 4
_UNREADABLE = 29


class GroupConsumer:
    """``AIOKafkaConsumer`` of a group, as ``ChunkConsumer`` uses it."""

    def __init__(self, process: Process, broker: Broker, group: Group) -> None:
        self._process = process
        self._broker = broker
        self._group = group
        self._coordinator = SimpleNamespace(
            generation=-1, member_id="", group_id=group.name, _send_req=self._heartbeat
        )
        self.tps: list[TopicPartition] = []
        self.paused: set[TopicPartition] = set()
        self.positions: dict[TopicPartition, int] = {}

    async def _heartbeat(self, request: Any) -> Any:
        code = await self._process.ask(
            self._group.heartbeat, request._member_id, request._generation_id, effect="ask heartbeat"
        )
        if code == 0:
            self._process.accepted_at = self._process.clock.now
        return SimpleNamespace(error_code=code)

    async def committed(self, tp: TopicPartition) -> int | None:
        """See aiokafka."""
        found = await self._process.ask(self._broker.offsets[self._group.name].get, tp)
        return None if found is None else int(found.offset)

    async def commit(
        self, offsets: Mapping[TopicPartition, int], *, effect: str = "commit first positions"
    ) -> None:
        """See aiokafka.

        Raises:
            CommitFailedError: we are no longer a member of this generation.
        """
        at = self._coordinator
        taken = await self._process.ask(
            self._group.commit,
            at.member_id,
            at.generation,
            dict(offsets),
            effect=effect,
            detail=_said(offsets),
        )
        if not taken:
            raise CommitFailedError("not a member of this generation")

    def assignment(self) -> set[TopicPartition]:
        """See aiokafka."""
        return set(self.tps)

    def pause(self, *tps: TopicPartition) -> None:
        """See aiokafka."""
        self.paused.update(tps)

    def resume(self, *tps: TopicPartition) -> None:
        """See aiokafka."""
        self.paused.difference_update(tps)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """See aiokafka."""
        self.positions[tp] = offset


class _Fetches(Nodes):
    """The brokers' side of fetches, under the product's ``_ObservedClient``."""

    def __init__(self, process: Process, broker: Broker) -> None:
        super().__init__(process, broker)
        self._empty = False
        self._conns: dict[Any, Any] = {}

    async def ready(self, node_id: int, **_: Any) -> bool:
        """There is a connection."""
        return True

    async def send(self, node_id: int, request: Any, group: Any = None) -> Any:
        """An answer of the node."""
        if isinstance(request, FetchRequest):
            return await self._fetch(node_id, request)
        return await super().send(node_id, request, group)

    async def _fetch(self, node_id: int, request: FetchRequest) -> Any:
        """An answer, when there is something or after a while."""
        rng = self._process.rng
        # A broker holds an empty fetch for a while; when it looks is as good as random.
        longest = 0.3 if self._process.world.last else 1.1 if self._empty else 0.8
        await asyncio.sleep(0.1 + longest * rng.random())
        response = await self._process.once(None, "", self._read, node_id, request)
        self._empty = not any(partitions[0][-1] for _, partitions in response.topics)
        if busy(self._process):
            # It lies in the socket while the process is busy with something else.
            await asyncio.sleep(rng.random())
        return response

    def _read(self, node_id: int, request: FetchRequest) -> Any:
        rng, topics = self._process.rng, []
        for topic, partitions in request.topics:
            for number, offset, _ in partitions:
                draw = rng.random()
                if draw < 0.1:
                    # Other partitions have filled the answer.
                    continue
                tp = TopicPartition(topic, number)
                if tp in self._broker.unreadable or self.deposed(node_id):
                    code = NOT_LEADING if self.deposed(node_id) else _UNREADABLE
                    topics.append((topic, [(number, code, -1, -1, [], [])]))
                    continue
                end, stable_end = self.end(node_id, tp)
                batches, after = self._broker.logs[tp].read(
                    offset, committed=True, limit=2 if draw < 0.2 else 1 << 30, until=stable_end
                )
                # Control records alone are bytes too.
                data = (batches, after) if after > offset else []
                topics.append((topic, [(number, 0, end, stable_end, [], data)]))
        if self.deposed(node_id):
            self.force_metadata_update()
        return SimpleNamespace(topics=topics)


class SimulatedConsumer(ChunkConsumer):
    """The product's consumer without Faust's service around it."""

    def __init__(
        self, process: Process, broker: Broker, group: Group, app: Any, topics: Iterable[str]
    ) -> None:
        self.app = app
        self.process = process
        self.group = group
        self.topics = tuple(topics)
        self.brokers = _Fetches(process, broker)
        self.client = _ObservedClient(self.brokers, EndProofs(self.brokers, READ_COMMITTED))
        self.inner = GroupConsumer(process, broker, group)
        self._thread = SimpleNamespace(  # type: ignore[assignment]
            _ensure_consumer=lambda: self.inner, fetcher=_Fetcher(self.client), call_thread=_call
        )
        self.generation = -1
        self.queue: asyncio.Queue[tuple[list[Chunk], int]] = asyncio.Queue(_QUEUE)
        self._kept: dict[TP, int] = {}
        self._keeping: asyncio.Future[None] | None = None
        self._noticed = asyncio.Event()

    # --- membership ---------------------------------------------------------------------------------

    async def belong(self) -> None:
        """Be a member, through one rebalance after the other."""
        inner, member_id = self.inner, ""
        while True:
            self._noticed.clear()
            member_id, generation, numbers = await self._join(member_id)
            tps = [TopicPartition(topic, number) for number in numbers for topic in self.topics]
            inner._coordinator.generation, inner._coordinator.member_id = generation, member_id
            inner.tps, inner.paused, inner.positions = tps, set(tps), {}
            self.generation = generation
            self.owner.assigned(frozenset(TP(tp.topic, tp.partition) for tp in tps), generation)
            await self._noticed.wait()
            if inner._coordinator.generation == -1:
                member_id = ""
            await self.owner.revoked(frozenset(TP(tp.topic, tp.partition) for tp in tps))
            await self.keep()
            self._kept.clear()

    async def _join(self, member_id: str) -> tuple[str, int, list[int]]:
        done = self.process.create_future()
        await self.process.ask(self.group.join, self.process, member_id, self._hear, done)
        answer: tuple[str, int, list[int]] = await done
        return answer

    def _hear(self, kicked: bool) -> None:
        """A heartbeat was answered: join again; ``kicked``: as somebody new."""
        if kicked:
            self.inner._coordinator.generation = -1
        self._noticed.set()

    async def keep(self) -> None:
        """Commit what the owner releases; as in Faust a commit under way is waited for instead."""
        if self._keeping is not None:
            await asyncio.wait([self._keeping])
            return
        self._keeping = self.process.create_future()
        try:
            await self._keep()
        finally:
            keeping, self._keeping = self._keeping, None
            keeping.set_result(None)

    async def _keep(self) -> None:
        offsets = {
            TopicPartition(tp.topic, tp.partition): offset
            for tp, offset in self.owner.committable().items()
            if tp not in self._kept or offset > self._kept[tp]
        }
        if not offsets or self.inner._coordinator.generation == -1:
            return
        try:
            await self.inner.commit(offsets, effect="commit")
        except CommitFailedError:
            return
        self._kept.update({TP(tp.topic, tp.partition): offset for tp, offset in offsets.items()})

    async def keep_regularly(self) -> None:
        """Commit again and again."""
        while True:
            await asyncio.sleep(_COMMIT_S)
            await self.keep()

    async def next(self) -> tuple[list[Chunk], int]:
        """The next chunks for the agent, sometimes some time after they came."""
        if busy(self.process):
            await asyncio.sleep(self.process.rng.random())
        return await self.queue.get()

    # --- records ------------------------------------------------------------------------------------

    async def fetch(self) -> None:
        """Fetch what flows and queue it for the agent, for ever."""
        inner = self.inner
        while True:
            asked = {tp: inner.positions[tp] for tp in inner.tps if tp not in inner.paused}
            if not asked:
                await asyncio.sleep(0.15)
                continue
            topics = [(tp.topic, [(tp.partition, offset, 1 << 20)]) for tp, offset in asked.items()]
            try:
                response = await self.client.send(
                    self.brokers.leader, FetchRequest(50, 1, 1 << 24, READ_COMMITTED, topics)
                )
            except KafkaError:
                continue
            for chunks in self._take(response, asked):
                await self.queue.put((chunks, self.generation))

    def _take(self, response: Any, asked: Mapping[TopicPartition, int]) -> Iterable[list[Chunk]]:
        """Chunks by partition number; what is no longer wanted is left where it is."""
        inner, starts = self.inner, self._thread.fetcher.starts
        found: dict[int, list[Chunk]] = {}
        for topic, partitions in response.topics:
            number, code, _, _, _, data = partitions[0]
            tp = TopicPartition(topic, number)
            if code or not data or tp in inner.paused or inner.positions.get(tp) != asked[tp]:
                continue
            batches, after = data
            inner.positions[tp] = after
            chunk = Chunk(tp, asked[tp], after, batches, start=starts.get(tp, 0), size=100 * len(batches))
            found.setdefault(number, []).append(chunk)
        for chunks in found.values():
            yield self.process.effects.do(self.process, "read", partial(_read, chunks), partial(list, chunks))


class _Fetcher(ChunkFetcher):
    """What ``ChunkConsumer`` looks at of a ``ChunkFetcher``."""

    def __init__(self, client: _ObservedClient) -> None:
        self.starts = {}
        self._client = client


async def _call(act: Any, *args: Any) -> Any:
    return await act(*args)


def _said(offsets: Mapping[TopicPartition, int]) -> str:
    return " ".join(f"{tp.topic}/{tp.partition}@{offset}" for tp, offset in offsets.items())


def _read(chunks: list[Chunk]) -> str:
    return " ".join(f"{c.tp.topic}/{c.tp.partition}[{c.first},{c.next_offset})" for c in chunks)
