"""What the SDK's publishers write, read back from a real Kafka with plain clients."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
import uuid
from typing import Any

import confluent_kafka
import msgspec
import numpy as np
import pytest

from stream_ensemble import config
from stream_ensemble.columnar import feedbacks as feedbacks_codec
from stream_ensemble.columnar import predictions as predictions_codec
from stream_ensemble.core.partitioning import partitions_of
from stream_ensemble.errors import TopologyError
from stream_ensemble.kafka.admin import admin_client
from stream_ensemble.messages import FORMAT_ARRAYS, FORMAT_COLUMNS, HEADER_FORMAT, Feedback, Prediction
from stream_ensemble.sdk import (
    FeedbackPublisher,
    PredictionPublisher,
    RefusedError,
    RequestPublisher,
)
from stream_ensemble.sdk.wire import BatchWire
from tests.integration.sdk_topics import (
    PARTITIONS,
    RIGHT,
    TRACE,
    ends,
    make_topics,
    read,
    settings_of,
    topics_of,
)


def placed_by_librdkafka(settings: config.Settings, topic: str, keys: list[bytes]) -> dict[bytes, int]:
    placed: dict[bytes, int] = {}

    def delivered(error: Any, message: Any) -> None:
        assert error is None
        placed[message.key()] = message.partition()

    producer = confluent_kafka.Producer(
        {"bootstrap.servers": settings.kafka.bootstrap_servers[0], "partitioner": "murmur2_random"}
    )
    for key in keys:
        producer.produce(topic, b"{}", key, on_delivery=delivered)
    assert producer.flush(30) == 0
    return placed


async def test_ids_land_where_librdkafkas_java_partitioner_puts_them(
    settings: config.Settings, ensemble_name: str
) -> None:
    ids = [secrets.token_hex(16) for _ in range(60)] + [str(uuid.uuid4()) for _ in range(60)]
    ids += [f"order-{number**3}" for number in range(60)] + ["ü" * length for length in range(1, 20)]
    async with PredictionPublisher(settings, ensemble_name, "a") as predictions:
        await predictions.publish_many(ids[2:], [RIGHT] * (len(ids) - 2))
        await predictions.publish(ids[0], RIGHT)
        await predictions.abstain(ids[1])
    ours = await read(settings, topics_of(settings).predictions[0], len(ids))
    keys = [request_id.encode() for request_id in ids]
    oracle = placed_by_librdkafka(settings, topics_of(settings).feedback, keys)
    assert {record.key: record.partition for record in ours} == oracle
    assert len(set(oracle.values())) == PARTITIONS


async def test_many_outputs_come_back_row_by_row(settings: config.Settings, ensemble_name: str) -> None:
    outputs = np.random.default_rng(0).dirichlet(np.ones(3), 100)
    ids = [f"r{row}" for row in range(100)]
    async with PredictionPublisher(settings, ensemble_name, "b") as predictions:
        await predictions.publish_many(ids, outputs, at=np.arange(100), segments="s")
    found = await read(settings, topics_of(settings).predictions[1], 100)
    by_id = {each.request_id: each for each in (msgspec.json.decode(r.value, type=Prediction) for r in found)}
    assert len(found) == 100
    for row, request_id in enumerate(ids):
        assert by_id[request_id] == Prediction(
            version=1,
            kind="prediction",
            request_id=request_id,
            member="b",
            at=row,
            output=outputs[row].tolist(),
            segment="s",
        )


@pytest.mark.parametrize(
    ("wire", "form", "unpack"),
    [
        ("columns", FORMAT_COLUMNS, predictions_codec.unpack),
        ("arrays", FORMAT_ARRAYS, predictions_codec.unpack_arrays),
    ],
)
async def test_a_batch_comes_back_as_one_record_a_partition(
    settings: config.Settings, ensemble_name: str, wire: BatchWire, form: bytes, unpack: Any
) -> None:
    outputs = np.random.default_rng(0).dirichlet(np.ones(3), 100).astype(np.float32)
    ids = [f"r{row}" for row in range(100)]
    async with PredictionPublisher(settings, ensemble_name, "b") as predictions:
        await predictions.publish_batch(ids, outputs, at=np.arange(100), segments="s", wire=wire)
        await predictions.publish("alone", RIGHT)
    found = await read(settings, topics_of(settings).predictions[1], PARTITIONS + 1)
    batches = {record.partition: unpack(record.value) for record in found if record.key is None}
    assert len(found) == len(batches) + 1 == PARTITIONS + 1
    assert {record.headers for record in found if record.key is None} == {((HEADER_FORMAT, form),)}
    rows = {
        request_id.decode(): (partition, output, at, batch.segments[row])
        for partition, batch in batches.items()
        for row, (request_id, output, at) in enumerate(
            zip(batch.ids, batch.outputs.tolist(), batch.at.tolist(), strict=True)
        )
    }
    places = partitions_of([request_id.encode() for request_id in ids], PARTITIONS).tolist()
    assert rows == {
        request_id: (places[row], outputs[row].tolist(), row, "s") for row, request_id in enumerate(ids)
    }


async def test_a_batch_of_labels_comes_back_as_given(settings: config.Settings, ensemble_name: str) -> None:
    async with FeedbackPublisher(settings, ensemble_name) as feedback:
        await feedback.publish_batch(["r0"], ["dog"], at=7, revisions=1, weights=[0.5])
        await feedback.publish_batch(["r1"], np.array([2]), wire="arrays")
    found = await read(settings, topics_of(settings).feedback, 2)
    by_form = {dict(record.headers)[HEADER_FORMAT]: record.value for record in found}
    first = feedbacks_codec.unpack(by_form[FORMAT_COLUMNS]).message(0)
    second = feedbacks_codec.unpack_arrays(by_form[FORMAT_ARRAYS]).message(0)
    assert (first.request_id, first.label, first.at, first.revision, first.weight) == ("r0", 1, 7, 1, 0.5)
    assert (second.request_id, second.label, second.at, second.revision) == ("r1", 2, None, 0)


async def test_a_batch_larger_than_the_client_takes_at_once_arrives_whole(
    settings: config.Settings, ensemble_name: str, record_property: Any
) -> None:
    count = 50_000
    ids = [secrets.token_hex(16) for _ in range(count)]
    outputs = np.random.default_rng(0).dirichlet(np.ones(3), count).astype(np.float32)
    async with PredictionPublisher(settings, ensemble_name, "a") as predictions:
        worked = time.process_time()
        await predictions.publish_batch(ids, outputs, at=time.time_ns() // 1_000_000)
        cpu_us = (time.process_time() - worked) / count * 1e6
    record_property("cpu_us_per_prediction", round(cpu_us, 2))
    offsets = await ends(settings, topics_of(settings).predictions[0])
    found = await read(settings, topics_of(settings).predictions[0], sum(offsets.values()))
    together = predictions_codec.unpack_all([record.value for record in found])
    assert together is not None
    assert sorted(together.ids) == sorted(request_id.encode() for request_id in ids)
    # Measured: 1 us of CPU; one JSON record each costs 4.
    assert cpu_us < 5


async def test_an_abstention_and_an_error_say_so_and_carry_the_trace_on(
    settings: config.Settings, ensemble_name: str
) -> None:
    async with PredictionPublisher(settings, ensemble_name, "a") as predictions:
        await predictions.abstain("r", at=5, segment="s", traceparent=TRACE)
        await predictions.error("r", "no memory", at=5, segment="s", traceparent=TRACE)
    found = await read(settings, topics_of(settings).predictions[0], 2)
    same = {
        "version": 1,
        "kind": "prediction",
        "request_id": "r",
        "member": "a",
        "at": 5,
        "segment": "s",
    }
    assert [json.loads(record.value) for record in found] == [
        same | {"abstain": True},
        same | {"error": "no memory"},
    ]
    assert [record.headers for record in found] == [(("traceparent", TRACE.encode()),)] * 2


async def test_concurrent_single_calls_are_all_acknowledged(
    settings: config.Settings, ensemble_name: str
) -> None:
    async with PredictionPublisher(settings, ensemble_name, "a") as predictions:
        await asyncio.gather(*(predictions.publish(f"r{row}", RIGHT) for row in range(500)))
        # Large and small calls at once take turns in the same partitions.
        await asyncio.gather(
            *(
                predictions.publish_many([f"m{call}-{row}" for row in range(100)], [RIGHT] * 100)
                for call in range(20)
            ),
            *(predictions.publish(f"s{row}", RIGHT) for row in range(100)),
        )
    assert sum((await ends(settings, topics_of(settings).predictions[0])).values()) == 2600


async def test_labels_come_back_as_given(settings: config.Settings, ensemble_name: str) -> None:
    async with FeedbackPublisher(settings, ensemble_name) as feedback:
        await feedback.publish("r", np.int64(2))
        await feedback.publish("r", "dog", revision=1, weight=np.float64(0.5), at=7, traceparent=TRACE)
    found = await read(settings, topics_of(settings).feedback, 2)
    first, second = (msgspec.json.decode(record.value, type=Feedback) for record in found)
    assert (first.label, first.revision, first.weight, first.at) == (2, 0, 1.0, None)
    assert (second.label, second.revision, second.weight, second.at) == ("dog", 1, 0.5, 7)
    assert found[1].headers == (("traceparent", TRACE.encode()),)


async def test_a_request_carries_its_features_as_json(settings: config.Settings, ensemble_name: str) -> None:
    features = {"pixels": np.eye(2, dtype=np.float32), "count": np.int64(3), "text": "ü"}
    async with RequestPublisher(settings, ensemble_name) as requests:
        await requests.publish("r", features, segment="s", at=5, deadline_ms=200, members=["b"])
        await requests.publish("bare")
    with_features, bare = (
        json.loads(record.value)
        for record in sorted(
            await read(settings, topics_of(settings).requests, 2), key=lambda record: -len(record.value)
        )
    )
    assert with_features == {
        "version": 1,
        "kind": "request",
        "request_id": "r",
        "at": 5,
        "segment": "s",
        "members": ["b"],
        "deadline_ms": 200,
        "features": {"pixels": [[1.0, 0.0], [0.0, 1.0]], "count": 3, "text": "ü"},
    }
    assert bare == {"version": 1, "kind": "request", "request_id": "bare"}


async def test_after_a_refused_batch_the_next_ones_are_taken(
    kafka_bootstrap: str, ensemble_name: str
) -> None:
    settings = settings_of(kafka_bootstrap, ensemble_name)
    await make_topics(settings, largest_batch=2000)
    async with RequestPublisher(settings, ensemble_name) as requests:
        with pytest.raises(RefusedError, match="MessageSizeTooLarge") as caught:
            await requests.publish("r", "x" * 5000)
        assert not caught.value.retriable
        # The failed batch leaves a hole in the producer's sequence of this very partition.
        for _ in range(3):
            await requests.publish("r", "small")
    assert sum((await ends(settings, topics_of(settings).requests)).values()) == 3


async def test_a_missing_topic_is_named_and_not_made(kafka_bootstrap: str, ensemble_name: str) -> None:
    settings = settings_of(kafka_bootstrap, ensemble_name)
    with pytest.raises(
        TopologyError, match=r"predictions\.a does not exist; `stream-ensemble topics create`"
    ):
        async with PredictionPublisher(settings, ensemble_name, "a"):
            raise AssertionError("entered without a topic")
    async with admin_client(settings.kafka) as client:
        assert topics_of(settings).predictions[0] not in await client.list_topics()


async def test_another_number_of_partitions_than_the_settings_say_is_refused(
    settings: config.Settings, ensemble_name: str
) -> None:
    ensemble = msgspec.structs.replace(settings.ensembles[ensemble_name], partitions=PARTITIONS + 1)
    other = msgspec.structs.replace(settings, ensembles={ensemble_name: ensemble})
    with pytest.raises(TopologyError, match="has 4 partitions, the settings say 5"):
        async with FeedbackPublisher(other, ensemble_name):
            raise AssertionError("entered with the wrong partitions")


async def test_fifty_thousand_predictions_cost_few_microseconds_each(
    settings: config.Settings, ensemble_name: str, record_property: Any
) -> None:
    count = 50_000
    ids = [secrets.token_hex(16) for _ in range(count)]
    outputs = np.random.default_rng(0).dirichlet(np.ones(3), count)
    async with PredictionPublisher(settings, ensemble_name, "a") as predictions:
        started, worked = time.perf_counter(), time.process_time()
        await predictions.publish_many(ids, outputs, at=time.time_ns() // 1_000_000)
        wall_us = (time.perf_counter() - started) / count * 1e6
        cpu_us = (time.process_time() - worked) / count * 1e6
    record_property("wall_us_per_prediction", round(wall_us, 2))
    record_property("cpu_us_per_prediction", round(cpu_us, 2))
    assert sum((await ends(settings, topics_of(settings).predictions[0])).values()) == count
    # Measured: 6 us of wall time and 4 of CPU; one send() for each record costs more than 25 us of CPU.
    assert cpu_us < 20
