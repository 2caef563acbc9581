"""Environment variables over ensemble.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_ensemble import settings_file
from stream_ensemble.config import Secret, Settings
from stream_ensemble.errors import SettingsError

FILE = """
[kafka]
bootstrap_servers = ["file:9092"]
[ensembles.digits]
members = ["forest", "network"]
[ensembles.digits.task]
classes = ["cat", "dog"]
[ensembles.fraud-eu]
members = ["a"]
[ensembles.fraud-eu.task]
classes = ["no", "yes"]
"""


def load(**variables: str) -> Settings:
    return settings_file.loads(FILE, {f"STREAM_ENSEMBLE__{name}": value for name, value in variables.items()})


def problem(**variables: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(**variables)
    return str(caught.value)


def test_a_list_is_read_with_commas_and_as_toml() -> None:
    for text in ("a:1,b:2", "a:1, b:2,", '["a:1", "b:2"]'):
        assert load(KAFKA__BOOTSTRAP_SERVERS=text).kafka.bootstrap_servers == ["a:1", "b:2"]
    assert load(ENSEMBLES__digits__PRIOR="0.25,0.75").ensembles["digits"].prior == [0.25, 0.75]


def test_numbers_and_truth_values_are_read_as_toml() -> None:
    settings = load(
        ENSEMBLES__digits__DEADLINE_MS="500", KAFKA__SSL_CHECK_HOSTNAME="false", REDIS__TIMEOUT_S="2"
    )
    assert settings.ensembles["digits"].deadline_ms == 500
    assert settings.kafka.ssl_check_hostname is False
    assert settings.redis.timeout_s == 2.0


def test_text_is_taken_as_it_is() -> None:
    settings = load(APP="123", REDIS__PASSWORD="true", WORKER__DATA_DIR="/a,b")
    assert (settings.app, settings.redis.password, settings.worker.data_dir) == (
        "123",
        Secret("true"),
        "/a,b",
    )


def test_keys_are_read_without_regard_to_case_and_ensembles_by_their_nearest_name() -> None:
    assert load(kafka__linger_ms="7").kafka.linger_ms == 7
    assert load(ENSEMBLES__DIGITS__QUORUM="2").ensembles["digits"].quorum == 2
    assert load(ENSEMBLES__FRAUD_EU__DEADLINE_MS="5").ensembles["fraud-eu"].deadline_ms == 5
    assert "Fraud-EU" not in load(ENSEMBLES__FRAUD_EU__DEADLINE_MS="5").ensembles


def test_deeper_tables_and_weights_by_member_are_reached() -> None:
    settings = load(
        ENSEMBLES__digits__LEARNING__ALGORITHM="fixed",
        ENSEMBLES__digits__LEARNING__WEIGHTS__forest="1",
        ENSEMBLES__digits__LEARNING__WEIGHTS__network="3",
        ENSEMBLES__digits__TASK__SUM_TOLERANCE="0.01",
        ENSEMBLES__digits__TOPICS__REQUESTS="",
    )
    digits = settings.ensembles["digits"]
    assert digits.learning.weights == {"forest": 1.0, "network": 3.0}
    assert (digits.task.sum_tolerance, digits.topics.requests) == (0.01, "")
    inline = load(
        ENSEMBLES__digits__LEARNING__ALGORITHM="fixed",
        ENSEMBLES__digits__LEARNING__WEIGHTS="forest = 1, network = 3",
    )
    assert inline.ensembles["digits"].learning.weights == {"forest": 1.0, "network": 3.0}


def test_an_empty_value_means_absent_where_a_setting_may_be_absent() -> None:
    settings = load(REDIS__PASSWORD="", ENSEMBLES__digits__LEARNING__HALF_LIFE="")
    assert settings.redis.password is None
    assert settings.ensembles["digits"].learning.half_life is None
    assert "redis.timeout_s" in problem(REDIS__TIMEOUT_S="")


def test_a_wrong_value_names_the_variable() -> None:
    message = problem(ENSEMBLES__digits__DEADLINE_MS="soon")
    assert (
        'ensembles.digits.deadline_ms = "soon" (from STREAM_ENSEMBLE__ENSEMBLES__digits__DEADLINE_MS)'
        in message
    )
    assert 'kafka.ssl_check_hostname = "True"' in problem(KAFKA__SSL_CHECK_HOSTNAME="True")
    assert "kafka.bootstrap_servers[1]" in problem(KAFKA__BOOTSTRAP_SERVERS="a:1,b")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "KAFKA__BOOTSTRAP_SERVER",
            "STREAM_ENSEMBLE__KAFKA__BOOTSTRAP_SERVER: unknown key; did you mean bootstrap",
        ),
        ("KAFAK__LINGER_MS", "unknown key; did you mean kafka?"),
        ("KAFKA", "names no setting, only something in or below the table kafka"),
        ("ENSEMBLES__digits", "only something in or below the table ensembles"),
        ("APP__X", "names no setting"),
    ],
)
def test_a_variable_that_names_no_setting_is_an_error(name: str, expected: str) -> None:
    assert expected in problem(**{name: "1"})


def test_a_line_break_in_a_variable_cannot_add_a_setting() -> None:
    assert "kafka.linger_ms" in problem(KAFKA__LINGER_MS="1\nother = 2")


def test_the_environment_alone_can_define_an_ensemble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {
        "STREAM_ENSEMBLE__ENSEMBLES__digits__MEMBERS": "forest,network",
        "STREAM_ENSEMBLE__ENSEMBLES__digits__TASK__CLASSES": "cat,dog",
    }
    assert settings_file.load(None, environ).ensembles["digits"].members == ["forest", "network"]
    with pytest.raises(SettingsError, match="no such file"):
        settings_file.load("ensemble.toml", environ)
