"""The text of server.properties."""

from __future__ import annotations

from stream_ensemble.embedded.kafka_properties import cluster_id, server_properties


def parsed(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_one_node_needs_no_second_copy_of_anything() -> None:
    properties = parsed(server_properties(port=1, controller_port=2, num_partitions=3))
    factors = {key: value for key, value in properties.items() if key.endswith("replication.factor")}
    assert set(factors.values()) == {"1"}
    assert len(factors) == 3
    assert properties["listeners"] == "CLIENT://127.0.0.1:1,CONTROLLER://127.0.0.1:2"
    assert properties["num.partitions"] == "3"


def test_overrides_replace() -> None:
    text = server_properties(port=1, controller_port=2, num_partitions=3, overrides={"num.partitions": "9"})
    assert parsed(text)["num.partitions"] == "9"
    assert text.count("num.partitions=9\n") == 1


def test_a_password_is_quoted_for_jaas_and_then_for_the_file() -> None:
    text = server_properties(port=1, controller_port=2, num_partitions=3, sasl=("ann", 'q"b\\ö\U0001f600'))
    assert 'password="q\\\\"b\\\\\\\\\\u00f6\\ud83d\\ude00"' in text
    assert text.isascii()


def test_a_cluster_id_is_never_taken_for_an_option() -> None:
    assert cluster_id(b"\xf8" * 16)[0] != "-"
    assert len(cluster_id(b"\xf8" * 16)) == 22
    assert cluster_id(bytes(16)) != cluster_id(bytes(15) + b"\x10")
