"""What no single type can say: settings that must fit each other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from stream_ensemble.config import Ensemble, Guardrail, Kafka, Redis, Settings, everyone
from stream_ensemble.core.learning.choose import NEEDS_LOG_LOSS, NEEDS_ORDER, ORDER_DEPENDENT
from stream_ensemble.settings import redis_address
from stream_ensemble.settings.problems import Path, Problem, shown
from stream_ensemble.settings.topic_checks import topic_problems

#: As many as a bit mask has room for.
MOST_MEMBERS = 64
#: How far a prior may be from summing to 1.
PRIOR_TOLERANCE = 1e-6


def crosscheck(settings: Settings) -> list[Problem]:
    """Every pair of settings that contradict each other; empty where all is well."""
    problems = [*_kafka(settings.kafka), *_redis(settings.redis)]
    for name, ensemble in settings.ensembles.items():
        path = ("ensembles", name)
        problems += [*_members(path, ensemble), *_task(path, ensemble), *_times(path, ensemble)]
        problems += [*_learning(path, ensemble), *_guardrail(path, ensemble.learning.guardrail)]
    return problems + list(topic_problems(settings))


def _kafka(kafka: Kafka) -> Iterator[Problem]:
    uses_sasl = kafka.security_protocol.startswith("SASL")
    uses_tls = kafka.security_protocol.endswith("SSL")
    for name in ("sasl_mechanism", "sasl_username", "sasl_password"):
        given = getattr(kafka, name) is not None
        if uses_sasl and not given:
            yield Problem(
                ("kafka", name), f"missing; needed with security_protocol {kafka.security_protocol}"
            )
        if given and not uses_sasl:
            yield Problem(
                ("kafka", "security_protocol"),
                f"expected SASL_PLAINTEXT or SASL_SSL, as {name} is set",
                shown(kafka.security_protocol),
            )
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_keyfile_password"):
        if getattr(kafka, name) is not None and not uses_tls:
            yield Problem(
                ("kafka", "security_protocol"),
                f"expected SSL or SASL_SSL, as {name} is set",
                shown(kafka.security_protocol),
            )
    if kafka.ssl_certfile is None:
        for name in ("ssl_keyfile", "ssl_keyfile_password"):
            if getattr(kafka, name) is not None:
                yield Problem(("kafka", "ssl_certfile"), f"missing; needed with {name}")
    if kafka.session_timeout_s > kafka.request_timeout_s:
        yield Problem(
            ("kafka", "session_timeout_s"),
            f"expected at most request_timeout_s, which is {kafka.request_timeout_s}",
            shown(kafka.session_timeout_s),
        )
    if 3 * kafka.heartbeat_interval_s > kafka.session_timeout_s:
        yield Problem(
            ("kafka", "heartbeat_interval_s"),
            f"expected at most a third of session_timeout_s, which is {kafka.session_timeout_s}",
            shown(kafka.heartbeat_interval_s),
        )
    for place, server in enumerate(kafka.bootstrap_servers):
        if not 1 <= int(server.rpartition(":")[2]) <= 65_535:
            yield Problem(
                ("kafka", "bootstrap_servers", place), "expected a port of 1 to 65535", shown(server)
            )


def _redis(redis: Redis) -> Iterator[Problem]:
    uses_tls = redis_address.speaks_tls(redis.url)
    in_cluster = redis_address.is_cluster(redis.url)
    with_tls = "rediss+cluster://" if in_cluster else "rediss://"
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        if getattr(redis, name) is not None and not uses_tls:
            yield Problem(("redis", "url"), f"expected {with_tls}, as {name} is set", shown(redis.url))
    if redis.ssl_keyfile is not None and redis.ssl_certfile is None:
        yield Problem(("redis", "ssl_certfile"), "missing; needed with ssl_keyfile")
    if redis.username is not None and redis.password is None:
        yield Problem(("redis", "password"), "missing; needed with username")
    if not _has_port(redis.url):
        yield Problem(("redis", "url"), "expected a port of 1 to 65535 after the host", shown(redis.url))
    database = urlsplit(redis.url).path.strip("/")
    if in_cluster:
        if database not in ("", "0"):
            yield Problem(("redis", "url"), "expected no database: a cluster has but one", shown(redis.url))
        return
    if not redis.url.startswith("unix:") and database and not database.isdecimal():
        yield Problem(("redis", "url"), "expected the number of a database after the host", shown(redis.url))


def _has_port(url: str) -> bool:
    try:
        if redis_address.is_cluster(url):
            return bool(redis_address.nodes(url))
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _members(path: Path, ensemble: Ensemble) -> Iterator[Problem]:
    yield from _repeated((*path, "members"), ensemble.members)
    if ensemble.quorum > len(ensemble.members):
        yield Problem(
            (*path, "quorum"),
            f"expected at most {len(ensemble.members)}, the number of members",
            shown(ensemble.quorum),
        )
    at = (*path, "required")
    yield from _repeated(at, ensemble.required)
    for name in sorted(set(ensemble.required) - set(ensemble.members)):
        yield Problem(at, f"no such member; members are {', '.join(ensemble.members)}", shown(name))
    at = (*path, "shadows")
    yield from _repeated(at, ensemble.shadows)
    for name in sorted(set(ensemble.shadows) & set(ensemble.members)):
        yield Problem(at, "expected no member of `members`: it is awaited already", shown(name))
    if len(everyone(ensemble)) > MOST_MEMBERS:
        yield Problem(
            at, f"expected at most {MOST_MEMBERS} members and shadows together", str(len(everyone(ensemble)))
        )
    if ensemble.early_decision and ensemble.learning.algorithm == "bank":
        yield Problem(
            (*path, "early_decision"),
            'expected false with learning.algorithm "bank" (the default): it does not pool linearly, so '
            "nothing is certain before all have answered; to decide early, choose learning.algorithm "
            '"ml_poly"',
            shown(ensemble.early_decision),
        )


def _task(path: Path, ensemble: Ensemble) -> Iterator[Problem]:
    task, at = ensemble.task, (*path, "task")
    forecast = task.kind == "forecast"
    used, unused = ("horizons", "classes") if forecast else ("classes", "horizons")
    names: list[str] = getattr(task, used)
    least = 2 if task.kind == "classification" else 1
    if len(names) < least:
        yield Problem((*at, used), f"expected at least {least} with kind {task.kind}", shown(names))
    if getattr(task, unused):
        yield Problem((*at, unused), f"not used with kind {task.kind}, which has {used}")
    yield from _repeated((*at, used), names)
    yield from _prior((*path, "prior"), ensemble, names)
    if task.kind != "classification":
        yield from _with_parts(path, ensemble)


def _prior(at: Path, ensemble: Ensemble, names: list[str]) -> Iterator[Problem]:
    prior, kind = ensemble.prior, ensemble.task.kind
    if prior is None:
        return
    if len(prior) != len(names):
        what = "numbers, one for each horizon" if kind == "forecast" else "probabilities, one for each class"
        yield Problem(at, f"expected {len(names)} {what}; got {len(prior)}")
    elif kind != "forecast" and (min(prior) < 0 or max(prior) > 1):
        yield Problem(at, "expected probabilities, each of 0 to 1", shown(prior))
    elif kind == "classification" and abs(math.fsum(prior) - 1) > PRIOR_TOLERANCE:
        yield Problem(at, f"expected probabilities that sum to 1; their sum is {math.fsum(prior):.9g}")


def _with_parts(path: Path, ensemble: Ensemble) -> Iterator[Problem]:
    """What is there for exclusive classes only."""
    kind, learning = ensemble.task.kind, ensemble.learning
    if ensemble.early_decision:
        at = (*path, "early_decision")
        yield Problem(at, f"expected false with kind {kind}: there is no label that could be certain")
    if learning.calibration:
        at = (*path, "learning", "calibration")
        yield Problem(at, f"expected false with kind {kind}: it is there for a classification")
    if kind == "forecast" and learning.algorithm in NEEDS_LOG_LOSS:
        at = (*path, "learning", "algorithm")
        yield Problem(at, "its steps fit log loss, and a forecast has any scale", shown(learning.algorithm))


def _times(path: Path, ensemble: Ensemble) -> Iterator[Problem]:
    deadlines = 2 * ensemble.deadline_ms
    if ensemble.silence_after_ms is not None and ensemble.silence_after_ms < deadlines:
        yield Problem(
            (*path, "silence_after_ms"),
            f"expected at least two deadlines, which are {deadlines}",
            shown(ensemble.silence_after_ms),
        )
    if ensemble.lateness_horizon_s * 1000 < ensemble.deadline_ms:
        yield Problem(
            (*path, "lateness_horizon_s"),
            f"expected at least the deadline, which is {ensemble.deadline_ms / 1000:g} s",
            shown(ensemble.lateness_horizon_s),
        )


def _learning(path: Path, ensemble: Ensemble) -> Iterator[Problem]:
    algorithm = ensemble.learning.algorithm
    if algorithm in ORDER_DEPENDENT:
        yield Problem((*path, "learning", "algorithm"), NEEDS_ORDER, shown(algorithm))
    at = (*path, "learning", "weights")
    weights, members = ensemble.learning.weights, ensemble.members
    if ensemble.learning.algorithm != "fixed":
        if weights is not None:
            yield Problem(at, f'used only by algorithm "fixed", not by "{ensemble.learning.algorithm}"')
        return
    if weights is None:
        yield Problem(at, 'missing; algorithm "fixed" needs the weight of every member')
        return
    for name in sorted(weights.keys() - set(everyone(ensemble))):
        yield Problem((*at, name), f"no such member; members are {', '.join(members)}")
    for name in sorted(set(members) - weights.keys()):
        yield Problem((*at, name), "missing; every member needs a weight")
    if not any(weights.values()):
        yield Problem(at, "expected at least one weight above 0")


def _guardrail(path: Path, guardrail: Guardrail) -> Iterator[Problem]:
    at = (*path, "learning", "guardrail")
    if guardrail.back_at > guardrail.worse_by:
        yield Problem(
            (*at, "back_at"),
            f"expected at most worse_by, which is {guardrail.worse_by:g}",
            shown(guardrail.back_at),
        )
    # All labels ever, discounted, count as no more than 1.44 half-lives.
    if guardrail.least_labels > guardrail.half_life:
        yield Problem(
            (*at, "least_labels"),
            f"expected at most half_life, which is {guardrail.half_life:g}",
            shown(guardrail.least_labels),
        )


def _repeated(path: Path, names: list[str]) -> Iterator[Problem]:
    for name, count in Counter(names).items():
        if count > 1:
            yield Problem(path, f"expected different names; {shown(name)} stands there {count} times")
