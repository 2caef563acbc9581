"""What we use of the insides of faust-streaming and aiokafka, both pinned; this fails when they move."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version

import aiokafka.consumer.fetcher as fetcher
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.producer.message_accumulator import BatchBuilder, MessageAccumulator, MessageBatch
from aiokafka.producer.sender import Sender, SendProduceReqHandler
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.memory_records import MemoryRecords
from faust.app.base import App
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver

from stream_ensemble.kafka.batch_builder import CompiledBuilder
from stream_ensemble.kafka.frames import JoinedRequest


def source(thing: object) -> str:
    return inspect.getsource(thing)  # type: ignore[arg-type]


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_pinned_versions_are_installed() -> None:
    assert version("faust-streaming") == "0.15.3"
    assert version("aiokafka") == "0.14.0"


def test_the_fetcher_sends_by_its_client_and_keeps_results_by_partition() -> None:
    sent = source(fetcher.Fetcher._proc_fetch_request)
    assert "await self._client.send(node_id, request)" in sent
    assert "self._records[tp] = FetchResult(" in sent
    assert "self._proc_fetch_request(assignment, node_id, request)" in source(
        fetcher.Fetcher._fetch_requests_routine
    )
    for name in ("_create_fetch_waiter", "_notify"):
        assert hasattr(fetcher.Fetcher, name)
    assert parameters(fetcher.Fetcher.fetched_records) == ["self", "partitions", "timeout", "max_records"]
    assert isinstance(FetchRequest.topics, property)
    made = FetchRequest(1, 2, 3, 0, [("t", [(0, 5, 6)])], rack_id="")
    assert (made._max_bytes, made._topics) == (3, [("t", [(0, 5, 6)])])


def test_a_fetch_result_holds_batches_that_nobody_has_unpacked() -> None:
    made = source(fetcher.PartitionRecords.__init__)
    for name in (
        "_records",
        "_records_iterator",
        "_check_crcs",
        "_isolation_level",
        "_aborted_producers",
        "next_fetch_offset",
    ):
        assert f"self.{name} =" in made
    for name in ("_consume_aborted_up_to", "_contains_abort_marker"):
        assert hasattr(fetcher.PartitionRecords, name)
    for name in ("check_assignment", "has_more", "_update_position"):
        assert hasattr(fetcher.FetchResult, name)
    assert "self._partition_records = partition_records" in source(fetcher.FetchResult.__init__)
    assert MemoryRecords(b"").size_in_bytes() == 0


def test_the_sequence_of_a_batch_is_asked_for_before_its_producer() -> None:
    popped = source(MessageAccumulator._pop_batch)
    assert popped.index("sequence_number(batch.tp)") < popped.index("producer_id=")
    assert "not_retry = batch.retry_count == 0" in popped
    assert parameters(MessageAccumulator._append_batch) == ["self", "builder", "tp"]
    assert "self._batches[tp].append(batch)" in source(MessageAccumulator._append_batch)
    assert {"create_builder", "fail_all", "_append_batch"} <= set(dir(MessageAccumulator))
    asked = set(re.findall(r"_builder\.(\w+)", source(MessageBatch)))
    assert asked - {"append"} <= set(dir(CompiledBuilder))
    assert {"append", "close", "closed", "size"} <= set(dir(BatchBuilder))
    assert "self._builder = builder" in source(MessageBatch.__init__)
    assert "self._txn_manager = txn_manager" in source(Sender.__init__)
    assert {"sequence_number", "producer_id", "producer_epoch", "has_pid"} <= set(dir(TransactionManager))


def test_a_connection_reads_frames_from_its_reader_and_hands_them_over() -> None:
    read = source(AIOKafkaConnection._read)
    assert "await reader.readexactly(4)" in read
    assert "await reader.readexactly(size)" in read
    assert "self._handle_frame(resp)" in read
    assert "self._reader, self._writer, self._protocol = reader, writer, protocol" in source(
        AIOKafkaConnection.connect
    )
    handled = source(AIOKafkaConnection._handle_frame)
    for line in (
        "correlation_id, request, fut = self._requests[0]",
        "request.parse_response_header(resp)",
        "fut.set_result(response)",
        "self._last_action = time.monotonic()",
        "self._requests.popleft()",
    ):
        assert line in handled
    assert "header.encode() + request_struct.encode()" in source(AIOKafkaConnection.send)
    assert "self._conns[(node_id, group)].send(" in source(AIOKafkaClient.send)


@pytest.mark.parametrize("acks", [0, -1])
def test_a_joined_request_has_the_bytes_of_the_librarys(acks: int) -> None:
    topics = [("a", [(0, b"batch"), (3, bytearray(b"other"))]), ("b", [(1, b"")])]
    plain = ProduceRequest(None, acks, 1000, topics)
    joined = JoinedRequest(None, acks, 1000, topics)
    for version_ in ProduceRequest._CLASSES:
        assert joined.build(version_).encode() == plain.build(version_).encode()
    assert "self._client = sender.client" in source(SendProduceReqHandler.__init__)


def test_a_producer_and_its_parts_share_the_idempotence_state() -> None:
    made = source(AIOKafkaProducer.__init__)
    for name in ("_txn_manager", "_message_accumulator", "_sender"):
        assert f"self.{name} =" in made
    assert "self._exception = exception" in source(MessageAccumulator.fail_all)


def test_a_transactional_producer_takes_its_id_and_epoch_from_elsewhere_and_batches_at_once() -> None:
    assert "self._pid_and_epoch = PidAndEpoch(pid, epoch)" in source(TransactionManager.set_pid_and_epoch)
    assert "self._txn_manager.has_pid()" in source(Sender._maybe_wait_for_pid)
    assert "self._txn_manager.maybe_add_partition_to_txn(tp)" in source(MessageAccumulator._append_batch)
    assert "self._builder.set_producer_state(" in source(BatchBuilder._set_producer_state)
    assert {"is_in_transaction", "wait_for_transaction_end"} <= set(dir(TransactionManager))
    assert isinstance(Sender.sender_task, property)


def test_the_coordinator_can_be_asked_for_a_heartbeat_and_the_client_for_coordinators() -> None:
    assert parameters(GroupCoordinator._send_req)[:2] == ["self", "request"]
    assert "HeartbeatRequest(self.group_id, self.generation, self.member_id)" in source(
        GroupCoordinator._do_heartbeat
    )
    assert parameters(AIOKafkaClient.coordinator_lookup) == ["self", "coordinator_type", "coordinator_key"]


def test_a_group_s_offsets_are_asked_for_where_we_look_at_the_error() -> None:
    asking = source(GroupCoordinator._do_fetch_commit_offsets)
    assert "await self._send_req(request)" in asking
    assert "OffsetFetchRequest(" in asking
    # As soon as aiokafka looks itself, ``kafka/offset_errors.py`` is not needed any more.
    assert "response.error_code" not in asking
    telling = source(AIOKafkaAdminClient.list_consumer_group_offsets)
    assert "await self._send_request(request, group_coordinator_id)" in telling
    assert parameters(AIOKafkaAdminClient._send_request) == ["self", "request", "node_id"]


def test_faust_creates_its_consumer_where_we_change_it() -> None:
    assert "fetch_max_wait_ms=1500" in source(driver.AIOKafkaConsumerThread._create_worker_consumer)
    assert "consumer.RebalanceListener(self)" in source(driver.AIOKafkaConsumerThread.__post_init__)
    assert "return AIOKafkaConsumerThread(" in source(driver.Consumer._new_consumer_thread)
    assert "self._new_transport()" in source(App)
    assert "_fetcher" in source(driver.AIOKafkaConsumerThread._fetch_records)


def test_faust_asks_the_consumer_for_offsets_and_tells_it_of_partitions() -> None:
    consumer = faust_consumer.Consumer
    committed = source(consumer.force_commit) + source(consumer._filter_committable_offsets)
    for name in ("_filter_tps_with_pending_acks", "_new_offset", "_should_commit"):
        assert name in committed
    assert "await consumer._drain_messages(self)" in source(faust_consumer.Fetcher._fetcher.fun)
    for name in (
        "on_partitions_revoked",
        "on_partitions_assigned",
        "perform_seek",
        "_wait_next_records",
        "ack",
    ):
        assert hasattr(consumer, name)
    assert "self._read_offset.pop(tp, None)" in source(consumer.on_partitions_revoked)
    assert hasattr(driver.AIOKafkaConsumerThread, "call_thread")
