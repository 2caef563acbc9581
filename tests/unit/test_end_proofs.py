"""An end is believed when its leader knows it and another replica says that this one leads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors
from aiokafka.protocol.fetch import FetchRequest, FetchResponse_v4
from aiokafka.protocol.metadata import MetadataRequest, MetadataRequest_v5, MetadataResponse_v5
from aiokafka.protocol.offset import OffsetRequest, OffsetResponse_v3
from aiokafka.structs import TopicPartition

from stream_ensemble.kafka.end_proofs import READ_COMMITTED, EndProofs
from stream_ensemble.kafka.fetching import _ObservedClient

TP = TopicPartition("predictions", 2)
LEADER, OTHER, THIRD = 1, 2, 3
LEADER_NOT_AVAILABLE, NOT_LEADER = 5, 6


class Cluster:
    """Three brokers, or fewer; ``replicas`` have the partition."""

    def __init__(self, up: tuple[int, ...], replicas: tuple[int, ...]) -> None:
        self._up = up
        self._partitions = {TP.topic: {TP.partition: SimpleNamespace(replicas=replicas)}}
        self.leader = LEADER

    def brokers(self) -> list[Any]:
        return [SimpleNamespace(nodeId=node) for node in self._up]

    def leader_for_partition(self, tp: TopicPartition) -> int:
        return self.leader


class Client:
    """Answers as told: where a node says that the partition ends, or its error; whom it says leads it."""

    def __init__(
        self, up: tuple[int, ...] = (LEADER, OTHER, THIRD), replicas: tuple[int, ...] = (LEADER, OTHER, THIRD)
    ) -> None:
        self.cluster = Cluster(up, replicas)
        self.ends: dict[int, int | type[Exception]] = dict.fromkeys(up, 70)
        self.codes: dict[int, int] = {}
        self.leads: dict[int, int | type[Exception]] = dict.fromkeys(up, LEADER)
        self.asked: list[int] = []
        self.renewed = 0
        self._conns: dict[Any, Any] = {}

    async def ready(self, node: int) -> bool:
        return True

    def force_metadata_update(self) -> asyncio.Future[bool]:
        self.renewed += 1
        self.cluster.leader = THIRD
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        done.set_result(True)
        return done

    async def send(self, node: int, request: Any, group: Any = None) -> Any:
        if isinstance(request, FetchRequest):
            (_, [(_, offset, _)]) = request.topics[0]
            return FetchResponse_v4(0, [(TP.topic, [(TP.partition, 0, offset, offset, [], b"")])])
        self.asked.append(node)
        if isinstance(request, OffsetRequest):
            end = _said(self.ends[node])
            return OffsetResponse_v3(0, [(TP.topic, [(TP.partition, self.codes.get(node, 0), -1, end)])])
        assert isinstance(request, MetadataRequest)
        assert request.build(MetadataRequest_v5).allow_auto_topic_creation is False
        led = (0, TP.partition, _said(self.leads[node]), [LEADER, OTHER, THIRD], [LEADER, OTHER], [])
        return MetadataResponse_v5(0, [], "cluster", 1, [(0, TP.topic, False, [led])])


def _said(what: int | type[Exception]) -> int:
    if isinstance(what, int):
        return what
    raise what()


async def proofs_after(client: Client, ends: Mapping[TopicPartition, int]) -> EndProofs:
    proofs = EndProofs(client, READ_COMMITTED)
    proofs.found(LEADER, 1.0, ends)
    await settled(proofs)
    return proofs


async def settled(proofs: EndProofs) -> None:
    await asyncio.gather(*proofs._asking.values())


async def test_an_end_is_proved_by_its_leader_and_another_replica_for_the_time_they_were_asked() -> None:
    client = Client()
    proofs = await proofs_after(client, {TP: 70})
    assert client.asked == [LEADER, OTHER]
    assert proofs.ends[TP].offset == 70
    assert proofs.ends[TP].asked_at > 1.0
    assert TP not in proofs.unproven_since


async def test_a_leader_that_lost_the_partition_and_has_not_heard_of_it_proves_nothing() -> None:
    client = Client()
    client.leads = {LEADER: LEADER, OTHER: THIRD, THIRD: THIRD}
    proofs = await proofs_after(client, {TP: 70})
    assert TP not in proofs.ends
    assert TP in proofs.unproven_since
    assert client.renewed == 1


@pytest.mark.parametrize("code", [LEADER_NOT_AVAILABLE, NOT_LEADER])
async def test_a_new_leader_that_does_not_know_yet_how_far_all_have_come_proves_nothing(code: int) -> None:
    client = Client()
    client.codes = {LEADER: code}
    proofs = await proofs_after(client, {TP: 70})
    assert TP not in proofs.ends
    assert TP in proofs.unproven_since


async def test_the_end_is_the_one_the_leader_names_when_asked_for_it() -> None:
    client = Client()
    client.ends[LEADER] = 93
    proofs = await proofs_after(client, {TP: 70})
    assert proofs.ends[TP].offset == 93


async def test_who_gives_no_answer_is_not_asked_again_where_another_can_be() -> None:
    client = Client()
    client.leads[OTHER] = errors.KafkaConnectionError
    proofs = await proofs_after(client, {TP: 70})
    assert TP not in proofs.ends
    proofs._asked_at.clear()
    proofs.found(LEADER, 1.0, {TP: 70})
    await settled(proofs)
    assert client.asked == [LEADER, OTHER, LEADER, THIRD]
    assert TP in proofs.ends
    assert TP not in proofs.unproven_since


@pytest.mark.parametrize(
    ("up", "replicas"),
    [((LEADER,), (LEADER,)), ((LEADER, OTHER, THIRD), (LEADER,)), ((LEADER, THIRD), (LEADER, OTHER))],
)
async def test_where_nobody_else_can_lead_the_answer_to_a_fetch_is_proof_enough(
    up: tuple[int, ...], replicas: tuple[int, ...]
) -> None:
    client = Client(up, replicas)
    proofs = await proofs_after(client, {TP: 70})
    assert proofs.ends[TP] == (1.0, 70)
    assert client.asked == []


async def test_ends_are_asked_for_a_few_times_a_second_and_at_once_when_somebody_waits() -> None:
    client = Client()
    proofs = await proofs_after(client, {TP: 70})
    proofs.found(LEADER, 1.0, {TP: 70})
    await settled(proofs)
    assert len(client.asked) == 2
    await asyncio.sleep(0.06)
    proofs.found(LEADER, 1.0, {TP: 70})
    await settled(proofs)
    assert len(client.asked) == 2
    proofs.hurry()
    proofs.found(LEADER, 1.0, {TP: 70})
    await settled(proofs)
    assert len(client.asked) == 4


async def test_only_a_fetch_that_found_the_end_asks_for_it() -> None:
    client = Client()
    observed = _ObservedClient(client, EndProofs(client, READ_COMMITTED))
    await observed.send(LEADER, FetchRequest(50, 1, 1 << 20, 1, [(TP.topic, [(TP.partition, 70, 1 << 20)])]))
    assert observed.proofs is not None
    await settled(observed.proofs)
    assert observed.proofs.ends[TP].offset == 70


async def test_whoever_needs_an_end_asks_until_it_is_proved() -> None:
    client = Client()
    client.leads = {LEADER: LEADER, OTHER: THIRD, THIRD: THIRD}
    client.ends[THIRD] = 84
    assert await EndProofs(client, READ_COMMITTED).proved([TP]) == {TP: 84}
    # The one who has not heard of it is a bad witness as well.
    assert client.asked == [LEADER, OTHER, THIRD, LEADER, THIRD, OTHER]
