"""Typed settings: ``ensemble.toml`` plus environment variables.

This module holds what a setting is; reading, checking and explaining them is in ``settings_file.py``.
Durations carry their unit in the name.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]
#: Names become parts of topic names, group ids and Redis keys.
Identifier = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+\Z")]


class Secret:
    """A string that never shows itself: ``repr`` and ``str`` are asterisks."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself, for the call that needs it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


class Kafka(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How to reach Kafka, alike for the workers, the SDK and the command line."""

    bootstrap_servers: list[str] = field(default_factory=lambda: ["127.0.0.1:9092"])
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: Secret | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_keyfile_password: Secret | None = None
    ssl_check_hostname: bool = True
    replication_factor: Count = 1
    request_timeout_s: Positive = 40.0
    session_timeout_s: Positive = 10.0
    heartbeat_interval_s: Positive = 1.0
    rebalance_timeout_s: Positive = 10.0
    #: How long the broker may hold an empty fetch; the granularity of the deadline evidence.
    fetch_max_wait_ms: Count = 50
    fetch_max_bytes_per_partition: Count = 4 << 20
    commit_interval_s: Positive = 1.0
    linger_ms: Annotated[int, Meta(ge=0)] = 2
    max_batch_bytes: Count = 256 << 10
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"


class Redis(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How to reach Redis. A user and password may stand in the URL or beside it; ``rediss://`` is TLS."""

    url: str = "redis://127.0.0.1:6379/0"
    username: str | None = None
    password: Secret | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_check_hostname: bool = True
    timeout_s: Positive = 1.0
    #: How often a fuser looks for new weights, and the least time between two it adopts.
    poll_interval_ms: Annotated[int, Meta(ge=10, le=1000)] = 250


class Worker(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What concerns one process rather than an ensemble."""

    data_dir: str = "stream-ensemble-data"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class Topics(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Topic names; ``{ensemble}`` and ``{member}`` are filled in.

    Without ``{member}`` in ``predictions`` all members share one topic. An empty ``requests`` means none.
    """

    predictions: str = "{ensemble}.predictions.{member}"
    requests: str = "{ensemble}.requests"
    fused: str = "{ensemble}.fused"
    late: str = "{ensemble}.late"
    feedback: str = "{ensemble}.feedback"
    weights: str = "{ensemble}.weights"
    applied: str = "{ensemble}.applied"
    dead_letter: str = "{ensemble}.dead-letter"


class Classification(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One of C exclusive classes; members answer with C probabilities."""

    kind: Literal["classification"] = "classification"
    name: Identifier = "class"
    classes: Annotated[list[str], Meta(min_length=2, max_length=10_000)]
    #: How far the probabilities of an output may be from summing to 1.
    sum_tolerance: Annotated[float, Meta(ge=0, le=0.5)] = 1e-3


class Learning(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How the weights follow the labels."""

    algorithm: Literal["bank", "ml_poly", "uniform", "fixed"] = "ml_poly"
    #: Labels until an old one counts half; absent: never. For ``ml_poly``.
    half_life: Positive | None = 500.0
    #: Share of every awake member that no loss takes away.
    floor: Annotated[float, Meta(ge=0, lt=1)] = 0.01
    #: By member, for ``fixed``.
    weights: dict[str, NonNegative] | None = None
    flush_interval_ms: Annotated[int, Meta(ge=10, le=10_000)] = 250
    label_horizon_s: Positive = 86_400.0
    orphan_horizon_s: Positive = 86_400.0


class Ensemble(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One ensemble: its members, its task, its deadline and its topics."""

    members: Annotated[list[Identifier], Meta(min_length=1, max_length=64)]
    task: Classification
    partitions: Annotated[int, Meta(ge=1, le=1024)] = 4
    #: From the append time of a request's first record to the end of waiting.
    deadline_ms: Count = 1000
    #: Least number of outputs an answer is made of.
    quorum: Count = 1
    #: Below the quorum at the deadline: ``prior`` (answer with these probabilities) or none (``expired``).
    prior: list[float] | None = None
    #: A member with nothing appended for this long is not waited for; at least two deadlines.
    silence_after_ms: Count | None = None
    #: A prediction appended more than this after its request was made never opens a request.
    lateness_horizon_s: Positive = 600.0
    #: A partition unreadable by error for this long is given up.
    hold_limit_s: Positive = 60.0
    max_open_requests: Count = 200_000
    topics: Topics = field(default_factory=Topics)
    learning: Learning = field(default_factory=Learning)


class Settings(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The whole of ``ensemble.toml``."""

    #: Names the deployment: group ids and transactional ids start with it.
    app: Identifier = "stream-ensemble"
    kafka: Kafka = field(default_factory=Kafka)
    redis: Redis = field(default_factory=Redis)
    worker: Worker = field(default_factory=Worker)
    ensembles: Annotated[dict[Identifier, Ensemble], Meta(min_length=1)]


class TopicNames(Struct, frozen=True):
    """The topic names of one ensemble with everything filled in."""

    predictions: tuple[str, ...]
    requests: str
    fused: str
    late: str
    feedback: str
    weights: str
    applied: str
    dead_letter: str


def topic_names(name: str, ensemble: Ensemble) -> TopicNames:
    """Topic names of ensemble ``name``; ``predictions[k]`` is where member k publishes."""
    topics = ensemble.topics

    def fill(pattern: str, member: str = "") -> str:
        return pattern.replace("{ensemble}", name).replace("{member}", member)

    return TopicNames(
        predictions=tuple(fill(topics.predictions, member) for member in ensemble.members),
        requests=fill(topics.requests),
        fused=fill(topics.fused),
        late=fill(topics.late),
        feedback=fill(topics.feedback),
        weights=fill(topics.weights),
        applied=fill(topics.applied),
        dead_letter=fill(topics.dead_letter),
    )


def silence_after_ms(ensemble: Ensemble) -> int:
    """How long a member's topic must stay empty before it counts as silent; never under two deadlines."""
    return max(ensemble.silence_after_ms or 0, 2 * ensemble.deadline_ms)


def decision_digest(ensemble: Ensemble) -> str:
    """16 hex digits that change when a setting changes that shapes a decision (not where topics live)."""
    shaping = (
        ensemble.members,
        ensemble.task,
        ensemble.deadline_ms,
        ensemble.quorum,
        ensemble.prior,
        ensemble.silence_after_ms,
        ensemble.lateness_horizon_s,
        ensemble.learning,
    )
    return hashlib.blake2b(msgspec.json.encode(shaping), digest_size=8).hexdigest()
