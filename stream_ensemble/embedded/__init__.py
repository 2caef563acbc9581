"""A real Kafka and a real Redis from wheels, as child processes: for the demo, tests and benchmarks."""

from stream_ensemble.embedded.errors import EmbeddedServerError
from stream_ensemble.embedded.kafka import EmbeddedKafka
from stream_ensemble.embedded.redis import EmbeddedRedis

__all__ = ["EmbeddedKafka", "EmbeddedRedis", "EmbeddedServerError"]
