"""Whatever stands in file or environment is read or named; what is written is read back the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream_ensemble import settings_file
from stream_ensemble.config import Ensemble, Kafka, Learning, Redis, Secret, Settings, Task, Worker
from stream_ensemble.errors import SettingsError
from stream_ensemble.settings import kinds
from stream_ensemble.settings.write import value

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = words | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats()
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


def leaves(table: type[Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all settings, and of all tables."""
    found: list[tuple[str, ...]] = [path] if path else []
    for name, field in kinds.fields(table).items():
        inner = kinds.table_of(field.type)
        named = kinds.tables_of(field.type)
        if inner or named:
            found += leaves(inner or named, (*path, name, *(("digits",) if named else ())))
        else:
            found.append((*path, name))
    return found


def minimal() -> dict[str, Any]:
    task = {"classes": ["no", "yes"]}
    return {"ensembles": {"digits": {"members": ["a", "b"], "task": task}}}


def with_value(path: tuple[str, ...], item: object) -> dict[str, Any]:
    tree = minimal()
    node = tree
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = item
    return tree


@given(path=st.sampled_from(leaves(Settings)), item=trees)
@example(path=("kafka", "bootstrap_servers"), item=["a..b:1"])
@example(path=("redis", "url"), item="redis://[::1")
def test_any_value_of_any_setting_is_taken_or_named(path: tuple[str, ...], item: object) -> None:
    text = "\n".join(f"{key} = {value(inner)}" for key, inner in with_value(path, item).items())
    try:
        settings_file.loads(text)
    except SettingsError as error:
        assert path[0] in str(error)


@given(path=st.sampled_from(leaves(Settings)), text=words)
def test_any_text_of_any_variable_is_taken_or_named(path: tuple[str, ...], text: str) -> None:
    variable = "STREAM_ENSEMBLE__" + "__".join(path).upper().replace("__DIGITS", "__digits")
    file = "\n".join(f"{key} = {value(inner)}" for key, inner in minimal().items())
    try:
        settings_file.loads(file, {variable: text})
    except SettingsError as error:
        assert path[0] in str(error).lower()


names = st.from_regex(r"\A[A-Za-z0-9._-]{1,20}\Z")
seconds = st.floats(60, 1e6)


@st.composite
def ensembles(draw: st.DrawFn) -> Ensemble:
    members = draw(st.lists(names, min_size=1, max_size=4, unique_by=lambda name: name.replace(".", "_")))
    classes = draw(st.lists(words.filter(bool), min_size=2, max_size=4, unique=True))
    deadline_ms = draw(st.integers(1, 50_000))
    return Ensemble(
        members=members,
        task=Task(classes=classes),
        deadline_ms=deadline_ms,
        quorum=draw(st.integers(1, len(members))),
        prior=draw(st.none() | st.just([1.0] + [0.0] * (len(classes) - 1))),
        silence_after_ms=draw(st.none() | st.integers(2 * deadline_ms, 10**6)),
        lateness_horizon_s=draw(seconds),
        learning=draw(
            st.builds(Learning, half_life=st.none() | st.floats(0.1, 1e9), label_horizon_s=seconds)
            | st.just(Learning(algorithm="fixed", weights=dict.fromkeys(members, 0.5)))
        ),
    )


whole_settings = st.builds(
    Settings,
    app=names,
    kafka=st.just(Kafka())
    | st.builds(
        lambda user, password: Kafka(
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="PLAIN",
            sasl_username=user,
            sasl_password=Secret(password),
        ),
        words,
        words,
    ),
    redis=st.builds(Redis, password=st.none() | words.map(Secret)),
    worker=st.builds(Worker, data_dir=words.filter(bool)),
    ensembles=st.dictionaries(st.just("one"), ensembles(), min_size=1),
)


@given(whole_settings)
def test_what_is_written_is_read_back_the_same(settings: Settings) -> None:
    assert settings_file.loads(settings_file.dump(settings, reveal_secrets=True)) == settings


@given(whole_settings)
def test_what_is_written_without_secrets_says_so(settings: Settings) -> None:
    text = settings_file.dump(settings)
    assert ("# sasl_password is set" in text) is (settings.kafka.sasl_password is not None)
    assert ("# password is set" in text) is (settings.redis.password is not None)
    assert "password = " not in text


def test_an_ensemble_may_not_be_named_into_anothers_topics() -> None:
    tree = {"ensembles": {name: minimal()["ensembles"]["digits"] for name in ("a.b", "a_b")}}
    with pytest.raises(SettingsError, match="expected a topic of its own"):
        settings_file.loads(f"ensembles = {value(tree['ensembles'])}")
