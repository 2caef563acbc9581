"""Typed settings: ``ensemble.toml`` plus environment variables.

This module holds what a setting is; ``settings_file.py`` reads, checks and writes them. The description of a
setting stands here once: ``stream-ensemble init`` and ``docs/settings.md`` are made from it.
Durations carry their unit in the name.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
#: Names become parts of topic names, group ids and Redis keys.
Identifier = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._-]{1,64}\Z",
        extra={"expected": "a name of 1 to 64 letters, digits, dots, dashes or underscores"},
    ),
]
ServerAddress = Annotated[
    str,
    Meta(
        pattern=r"^(\[[0-9A-Fa-f:.]+\]|([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?):[0-9]{1,5}\Z",
        extra={"expected": "host:port"},
    ),
]
ClassName = Annotated[str, Meta(min_length=1, max_length=256)]


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

    bootstrap_servers: Annotated[
        list[ServerAddress], Meta(min_length=1, description="Brokers to ask first, each host:port.")
    ] = field(default_factory=lambda: ["127.0.0.1:9092"])
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        Meta(description="What the brokers' listener speaks; SSL is TLS."),
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None,
        Meta(
            description="How to log in; needed with SASL_PLAINTEXT and SASL_SSL.", examples=["SCRAM-SHA-512"]
        ),
    ] = None
    sasl_username: Annotated[str | None, Meta(description="Who logs in.", examples=["stream-ensemble"])] = (
        None
    )
    sasl_password: Annotated[Secret | None, Meta(description="Password of that user.", examples=["…"])] = None
    ssl_cafile: Annotated[
        str | None,
        Meta(description="PEM file of the authorities to trust; absent: the system's.", examples=["ca.pem"]),
    ] = None
    ssl_certfile: Annotated[
        str | None,
        Meta(
            description="PEM file of the client's certificate, where brokers ask for one.",
            examples=["client.pem"],
        ),
    ] = None
    ssl_keyfile: Annotated[
        str | None,
        Meta(description="PEM file of its key; absent: it stands in ssl_certfile.", examples=["client.key"]),
    ] = None
    ssl_keyfile_password: Annotated[
        Secret | None, Meta(description="Password of that key, where it is encrypted.", examples=["…"])
    ] = None
    ssl_check_hostname: Annotated[
        bool, Meta(description="Whether a broker's certificate must name the host it was reached by.")
    ] = True
    replication_factor: Annotated[
        int, Meta(ge=1, le=32_767, description="Copies of each topic that `topics create` makes.")
    ] = 1
    request_timeout_s: Annotated[
        float, Meta(gt=0, le=300, description="How long one request to a broker may take.")
    ] = 40.0
    session_timeout_s: Annotated[
        float,
        Meta(gt=0, le=1800, description="A worker without a heartbeat for this long loses its partitions."),
    ] = 10.0
    heartbeat_interval_s: Annotated[
        float, Meta(gt=0, le=600, description="Time between heartbeats; at most a third of the session.")
    ] = 1.0
    rebalance_timeout_s: Annotated[
        float,
        Meta(gt=0, le=600, description="How long a worker may take to let go of its partitions."),
    ] = 10.0
    fetch_max_wait_ms: Annotated[
        int,
        Meta(
            ge=1,
            le=60_000,
            description="How long a broker may hold an empty fetch; how finely the end of waiting is seen.",
        ),
    ] = 50
    fetch_max_bytes_per_partition: Annotated[
        int, Meta(ge=1024, le=2**31 - 1, description="Most bytes of one partition in one fetch.")
    ] = 4 << 20
    commit_interval_s: Annotated[
        float, Meta(gt=0, le=3600, description="Time between commits of the input offsets.")
    ] = 1.0
    delivery: Annotated[
        Literal["fenced", "transactions"],
        Meta(
            description='How fuse workers write: "fenced", an answer can be read at once, or "transactions", '
            "answers and input offsets become visible together, to who reads committed records only. Exactly "
            "one answer per request either way."
        ),
    ] = "fenced"
    transaction_interval_ms: Annotated[
        int,
        Meta(
            ge=10,
            le=5_000,
            description='Time between the transactions of a partition in the delivery mode "transactions".',
        ),
    ] = 100
    linger_ms: Annotated[
        int, Meta(ge=0, le=60_000, description="How long a batch waits for more records.")
    ] = 2
    max_batch_bytes: Annotated[int, Meta(ge=1024, le=2**30, description="Largest batch produced.")] = (
        256 << 10
    )
    max_bytes_in_flight: Annotated[
        int,
        Meta(
            ge=1 << 20,
            le=2**32,
            description="Bytes of a fuse worker that brokers have not acknowledged, at which reading waits.",
        ),
    ] = 32 << 20
    compression: Annotated[
        Literal["none", "gzip", "snappy", "lz4", "zstd"], Meta(description="Compression of produced batches.")
    ] = "none"


class Redis(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How to reach Redis. A user and password in the URL are moved out of it, so it can be shown."""

    url: Annotated[
        str,
        Meta(
            pattern=r"^(rediss?(\+cluster)?://[^\s/?#]|unix://)\S*\Z",
            description="redis://HOST:PORT/DB, or unix://PATH; redis+cluster://HOST:PORT,HOST:PORT names "
            "some nodes of a Redis Cluster; rediss:// and rediss+cluster:// are TLS.",
            extra={
                "expected": "a URL as redis://HOST:PORT/DB, rediss://HOST:PORT/DB, unix://PATH, "
                "redis+cluster://HOST:PORT,HOST:PORT or rediss+cluster://HOST:PORT,HOST:PORT"
            },
        ),
    ] = "redis://127.0.0.1:6379/0"
    username: Annotated[
        str | None, Meta(description="ACL user; absent: the default user.", examples=["stream-ensemble"])
    ] = None
    password: Annotated[Secret | None, Meta(description="Password of that user.", examples=["…"])] = None
    ssl_cafile: Annotated[
        str | None,
        Meta(description="PEM file of the authorities to trust; absent: the system's.", examples=["ca.pem"]),
    ] = None
    ssl_certfile: Annotated[
        str | None,
        Meta(
            description="PEM file of the client's certificate, where the server asks for one.",
            examples=["client.pem"],
        ),
    ] = None
    ssl_keyfile: Annotated[
        str | None,
        Meta(description="PEM file of its key; absent: it stands in ssl_certfile.", examples=["client.key"]),
    ] = None
    ssl_check_hostname: Annotated[
        bool, Meta(description="Whether the server's certificate must name the host it was reached by.")
    ] = True
    timeout_s: Annotated[
        float, Meta(gt=0, le=60, description="How long connecting or one command may take.")
    ] = 1.0
    poll_interval_ms: Annotated[
        int,
        Meta(
            ge=10,
            le=1000,
            description="How often a fuser looks for new weights, and the least time between two it adopts.",
        ),
    ] = 250

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if "@" not in parts.netloc:
            # The value itself is kept out of the message: the rest of a password would stand in it.
            if "@" in self.url and parts.scheme != "unix":
                raise ValueError("write the characters / ? # of a password in a URL as %2F %3F %23")
            return
        userinfo, _, address = parts.netloc.rpartition("@")
        user, _, password = userinfo.partition(":")
        force_setattr(self, "url", parts._replace(netloc=address).geturl())
        if user:
            _set_once(self, "username", unquote(user))
        if password:
            _set_once(self, "password", Secret(unquote(password)))


def _set_once(redis: Redis, name: str, value: str | Secret) -> None:
    if getattr(redis, name) not in (None, value):
        raise ValueError(f"{name} stands in the url and beside it, and they differ")
    force_setattr(redis, name, value)


class Worker(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What concerns one process rather than an ensemble."""

    data_dir: Annotated[
        str, Meta(min_length=1, description="Where a learner keeps its local store; a cache, safe to delete.")
    ] = "stream-ensemble-data"
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        Meta(description="Least severe message of ours that is logged; Faust's --loglevel is for others'."),
    ] = "INFO"


class Topics(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Topic names; ``{ensemble}`` and ``{member}`` are filled in."""

    predictions: Annotated[
        str, Meta(description="What the members publish; without {member} all of them share one topic.")
    ] = "{ensemble}.predictions.{member}"
    requests: Annotated[
        str, Meta(description="Who is expected to answer, by when; empty: the ensemble has no such topic.")
    ] = "{ensemble}.requests"
    fused: Annotated[str, Meta(description="The one terminal answer to each request.")] = "{ensemble}.fused"
    late: Annotated[str, Meta(description="Predictions that came after the end.")] = "{ensemble}.late"
    feedback: Annotated[str, Meta(description="Labels.")] = "{ensemble}.feedback"
    weights: Annotated[str, Meta(description="The learner's contributions; compacted.")] = (
        "{ensemble}.weights"
    )
    applied: Annotated[str, Meta(description="Labels learned or parked; compacted.")] = "{ensemble}.applied"
    dead_letter: Annotated[
        str, Meta(description="Records that cannot be used, unchanged, with the reason.")
    ] = "{ensemble}.dead-letter"


class Task(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What the members answer: one of C exclusive classes (classification), which of C classes are true
    (multilabel), or numbers for H horizons (forecast).
    """

    kind: Annotated[
        Literal["classification", "multilabel", "forecast"], Meta(description="Kind of task.")
    ] = "classification"
    name: Annotated[Identifier, Meta(description="Names the task in the weights' keys.")] = "class"
    classes: Annotated[
        list[ClassName],
        Meta(
            max_length=10_000,
            description="Class names, in the order of the members' probabilities: of a classification, at "
            "least two, or of a multilabel task.",
        ),
    ] = field(default_factory=list)
    sum_tolerance: Annotated[
        float,
        Meta(
            ge=0,
            le=0.5,
            description="How far an output's probabilities may be from summing to 1, in a classification.",
        ),
    ] = 1e-3
    horizons: Annotated[
        list[ClassName],
        Meta(
            max_length=10_000,
            description="Names of a forecast's numbers, in the order of the members' outputs; a single "
            "number has one horizon.",
            examples=[["1h", "6h", "24h"]],
        ),
    ] = field(default_factory=list)
    loss: Annotated[
        Literal["absolute", "square"],
        Meta(
            description="Of a forecast: absolute, by which the median is right, or square, by which the "
            "mean is."
        ),
    ] = "absolute"


class Guardrail(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Fuse with uniform weights while the learned ones do worse, as judged by the labels."""

    enabled: Annotated[bool, Meta(description="Whether anything is switched at all.")] = False
    half_life: Annotated[
        Positive, Meta(description="Labels until an old one counts half in that judgement.")
    ] = 200.0
    least_labels: Annotated[
        Positive, Meta(description="Labels, old ones discounted, without which nothing is switched.")
    ] = 50.0
    worse_by: Annotated[
        NonNegative,
        Meta(
            description="Uniform weights are taken when the mean loss of the learned ones is larger by more "
            "than this share."
        ),
    ] = 0.05
    back_at: Annotated[
        float,
        Meta(gt=-1, description="The learned ones are taken again when it is larger by at most this share."),
    ] = 0.0


class Admission(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """When a member in shadow becomes one that is awaited and weighted, and how it begins."""

    automatic: Annotated[
        bool,
        Meta(description="Whether the learner admits; otherwise only `stream-ensemble weights admit` does."),
    ] = True
    share: Annotated[
        float,
        Meta(
            gt=0,
            lt=1,
            description="Share of the answer at which a shadow is scored, and with which it begins when it "
            "is admitted; the others keep their ratios.",
        ),
    ] = 0.1
    least_labels: Annotated[
        Positive, Meta(description="Labels of requests it answered too, without which none is admitted.")
    ] = 200.0
    error: Annotated[
        float,
        Meta(
            gt=0,
            lt=1,
            description="Bound on the chance that one which would never better the answer is ever admitted.",
        ),
    ] = 0.01
    warm_labels: Annotated[
        Positive,
        Meta(
            description="Labels over which the share it began with falls to nothing; from then on it weighs "
            "what it has earned."
        ),
    ] = 500.0


class Learning(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How the weights follow the labels."""

    algorithm: Annotated[
        Literal[
            "bank",
            "ml_poly",
            "ewa",
            "ada_normal_hedge",
            "softmax_gradient",
            "best_single",
            "uniform",
            "fixed",
            "boa",
            "dorm",
        ],
        Meta(
            description="How weights are learned; bank mixes ml_poly at several half-lives and sharper "
            "poolings, ml_poly is cheaper and allows early_decision, uniform and fixed learn nothing; boa "
            "is for backtests only."
        ),
    ] = "bank"
    half_life: Annotated[
        Positive | None,
        Meta(
            description="Labels until an old one counts half, for ml_poly and best_single; "
            '"none": nothing is forgotten.'
        ),
    ] = 500.0
    floor: Annotated[
        float,
        Meta(ge=0, lt=1, description="Share of the weight spread evenly over the awake members."),
    ] = 0.01
    weights: Annotated[
        dict[str, NonNegative] | None,
        Meta(
            description="Weight of every member, for fixed.",
            examples=[{"forest": 1.0, "network": 2.0, "neighbours": 1.0}],
        ),
    ] = None
    calibration: Annotated[
        bool,
        Meta(
            description="Calibrate the fused probabilities by temperatures learned from the labels; the "
            "class answered and the weights stay the same."
        ),
    ] = False
    segments: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000_000,
            description="Segments whose weights a fuser holds, the most recently used ones; others are read "
            "when asked for. 0: no segment has weights of its own.",
        ),
    ] = 50_000
    cold_segment_s: Annotated[
        float,
        Meta(
            ge=0,
            le=315_360_000,
            description="A segment that nobody has labelled or asked for in so long leaves Redis, until its "
            "next label or request. 0: none ever does.",
        ),
    ] = 604_800.0
    flush_interval_ms: Annotated[
        int, Meta(ge=10, le=10_000, description="Time between the learner's transactions.")
    ] = 250
    label_horizon_s: Annotated[
        float,
        Meta(
            gt=0, le=315_360_000, description="A label counts if it comes this soon after its fused record."
        ),
    ] = 86_400.0
    orphan_horizon_s: Annotated[
        float,
        Meta(gt=0, le=315_360_000, description="How long a label waits for a fused record not seen yet."),
    ] = 86_400.0
    max_parked_labels: Annotated[
        Count,
        Meta(
            description="Labels of one partition that wait so; beyond it the oldest are given up as orphans."
        ),
    ] = 1_000_000
    guardrail: Guardrail = field(default_factory=Guardrail)
    admission: Admission = field(default_factory=Admission)


class Ensemble(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One ensemble: its members, its task, its deadline and its topics."""

    members: Annotated[
        list[Identifier], Meta(min_length=1, max_length=64, description="The models that are awaited.")
    ]
    shadows: Annotated[
        list[Identifier],
        Meta(
            max_length=63,
            description="Models on trial: read and scored beside the members, but not awaited and no part of "
            "the answer until their record admits them.",
            examples=[["boosted"]],
        ),
    ] = field(default_factory=list)
    task: Task
    partitions: Annotated[
        int,
        Meta(ge=1, le=1024, description="Partitions of every topic; not to be changed once it is in use."),
    ] = 4
    deadline_ms: Annotated[
        int,
        Meta(
            ge=1,
            le=86_400_000,
            description="From the append time of a request's first record to the end of waiting.",
        ),
    ] = 1000
    quorum: Annotated[Count, Meta(description="Least number of outputs an answer is made of.")] = 1
    required: Annotated[
        list[Identifier],
        Meta(description="Members without whose output there is no answer.", examples=[["forest"]]),
    ] = field(default_factory=list)
    early_decision: Annotated[
        bool,
        Meta(
            description="Answer as soon as the members still awaited cannot change the label (partial, "
            '"early"). The probabilities are then those of fewer members.'
        ),
    ] = False
    prior: Annotated[
        list[float] | None,
        Meta(
            description="The output answered below the quorum; absent: no answer (expired).",
            examples=[[0.5, 0.25, 0.25]],
        ),
    ] = None
    silence_after_ms: Annotated[
        Count | None,
        Meta(
            description="A member without a record for this long is not waited for; absent: two deadlines.",
            examples=[5000],
        ),
    ] = None
    lateness_horizon_s: Annotated[
        float,
        Meta(
            gt=0,
            le=315_360_000,
            description="A prediction appended this long after its request was made never opens a request.",
        ),
    ] = 600.0
    hold_limit_s: Annotated[
        float, Meta(gt=0, le=86_400, description="A partition unreadable by error for this long is given up.")
    ] = 60.0
    max_open_requests: Annotated[
        Count, Meta(description="Open requests of one partition at which reading is held back.")
    ] = 200_000
    fused_records: Annotated[
        Literal["single", "columnar"],
        Meta(
            description='How answers are written: "single", a JSON record each, or "columnar", many requests '
            "in one binary record, for heavy readers. FusedConsumer reads both."
        ),
    ] = "single"
    topics: Topics = field(default_factory=Topics)
    learning: Learning = field(default_factory=Learning)


class Settings(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The whole of ``ensemble.toml``."""

    app: Annotated[
        Identifier, Meta(description="Names the deployment: group ids and transactional ids start with it.")
    ] = "stream-ensemble"
    kafka: Kafka = field(default_factory=Kafka)
    redis: Redis = field(default_factory=Redis)
    worker: Worker = field(default_factory=Worker)
    ensembles: Annotated[dict[Identifier, Ensemble], Meta(min_length=1, description="By name.")]


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
    """Topic names of ensemble ``name``; ``predictions[k]`` is where member k of ``everyone`` publishes."""
    topics = ensemble.topics

    def fill(pattern: str, member: str = "") -> str:
        return pattern.replace("{ensemble}", name).replace("{member}", member)

    return TopicNames(
        predictions=tuple(fill(topics.predictions, member) for member in everyone(ensemble)),
        requests=fill(topics.requests),
        fused=fill(topics.fused),
        late=fill(topics.late),
        feedback=fill(topics.feedback),
        weights=fill(topics.weights),
        applied=fill(topics.applied),
        dead_letter=fill(topics.dead_letter),
    )


def everyone(ensemble: Ensemble) -> tuple[str, ...]:
    """All who may answer: the members, then those in shadow."""
    return (*ensemble.members, *ensemble.shadows)


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
        ensemble.required,
        ensemble.early_decision,
        ensemble.prior,
        ensemble.silence_after_ms,
        ensemble.lateness_horizon_s,
        ensemble.learning,
    )
    return hashlib.blake2b(msgspec.json.encode(shaping), digest_size=8).hexdigest()
