"""Benchmarks on a real Kafka: ``python -m benchmarks`` (or ``make bench``)."""
