"""Secrets come from the file, a file of their own or the environment, and are never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_ensemble import settings_file
from stream_ensemble.config import Redis, Secret
from stream_ensemble.errors import SettingsError

HIDDEN = "hunter2-Zq"
ENSEMBLE = """
[ensembles.digits]
members = ["forest"]
[ensembles.digits.task]
classes = ["cat", "dog"]
"""
SASL = 'security_protocol = "SASL_PLAINTEXT"\nsasl_mechanism = "PLAIN"\nsasl_username = "u"\n'


def test_a_secret_shows_itself_nowhere() -> None:
    text = f'{ENSEMBLE}[kafka]\n{SASL}sasl_password = "{HIDDEN}"\n[redis]\nurl = "redis://u:{HIDDEN}@h:1/0"\n'
    settings = settings_file.loads(text)
    for shown in (
        repr(settings),
        str(settings),
        settings_file.dump(settings),
        f"{settings.kafka.sasl_password}",
    ):
        assert HIDDEN not in shown
    assert "# sasl_password is set and not shown" in settings_file.dump(settings)
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.reveal() == HIDDEN


def test_user_and_password_are_moved_out_of_the_url() -> None:
    redis = Redis(url="rediss://me:p%40%2Fw@host:6380/2")
    assert (redis.url, redis.username, redis.password) == ("rediss://host:6380/2", "me", Secret("p@/w"))
    assert Redis(url="redis://:pw@host").password == Secret("pw")
    assert Redis(url="redis://me@host", password=Secret("pw")).username == "me"


def test_a_password_in_the_url_and_another_beside_it_are_refused() -> None:
    with pytest.raises(ValueError, match="password stands in the url and beside it"):
        Redis(url="redis://:pw@host", password=Secret("other"))


@pytest.mark.parametrize(
    "line",
    [
        f'[redis]\nurl = "redis://:{HIDDEN}/x@host:1/0"',
        f'[redis]\nurl = "http://u:{HIDDEN}@host:1/0"',
        f'[redis]\nurl = "redis://u:{HIDDEN}@host:77777/0"',
        f'[redis]\nurl = "redis://:{HIDDEN}@host:1/0"\npassword = "other"',
        f'[redis]\npasword = "{HIDDEN}"',
        f'[redis]\npassword = ["{HIDDEN}"]',
        f'[kafka]\nsasl_password = "{HIDDEN}"',
        f'[kafka]\nbootstrap_servers = ["u:{HIDDEN}@host:9092"]',
        f'[kafka]\nbootstrap_servers = "u:{HIDDEN}@host:9092"',
        f'[redis]\npassword = "{HIDDEN}"\npassword_file = "x"',
        f'[redis]\npassword = "{HIDDEN}',
    ],
)
def test_no_message_about_a_wrong_setting_shows_a_secret(line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_file.loads(f"{ENSEMBLE}\n{line}\n")
    assert HIDDEN not in str(caught.value)
    assert caught.value.__cause__ is None


def test_no_message_about_a_wrong_variable_shows_a_secret() -> None:
    for name in ("REDIS__PASWORD", "REDIS__URL", "KAFKA__SASL_PASSWORD"):
        with pytest.raises(SettingsError) as caught:
            settings_file.loads(ENSEMBLE, {f"STREAM_ENSEMBLE__{name}": f"x://u:{HIDDEN}@h"})
        assert HIDDEN not in str(caught.value)


def test_a_secret_is_read_from_the_file_that_holds_it(tmp_path: Path) -> None:
    held = tmp_path / "password"
    held.write_text(f"{HIDDEN}\n")
    text = f'{ENSEMBLE}[kafka]\n{SASL}sasl_password_file = "{held}"\n'
    assert settings_file.loads(text).kafka.sasl_password == Secret(HIDDEN)
    environ = {"STREAM_ENSEMBLE__REDIS__PASSWORD_FILE": str(held)}
    assert settings_file.loads(ENSEMBLE, environ).redis.password == Secret(HIDDEN)


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(SettingsError, match=r"redis\.password_file = .*gone.*: cannot be read: No such file"):
        settings_file.loads(f'{ENSEMBLE}[redis]\npassword_file = "{gone}"\n')


def test_a_variable_replaces_the_other_way_of_giving_a_secret(tmp_path: Path) -> None:
    held = tmp_path / "password"
    held.write_text("from-a-file")
    text = f'{ENSEMBLE}[redis]\npassword_file = "{held}"\n'
    environ = {"STREAM_ENSEMBLE__REDIS__PASSWORD": "given"}
    assert settings_file.loads(text, environ).redis.password == Secret("given")
    environ = {"STREAM_ENSEMBLE__REDIS__PASSWORD_FILE": str(held)}
    assert settings_file.loads(f'{ENSEMBLE}[redis]\npassword = "x"\n', environ).redis.password == Secret(
        "from-a-file"
    )
    both = {"STREAM_ENSEMBLE__REDIS__PASSWORD": "x", "STREAM_ENSEMBLE__REDIS__PASSWORD_FILE": str(held)}
    with pytest.raises(SettingsError, match="give either password or password_file, not both"):
        settings_file.loads(ENSEMBLE, both)


def test_an_empty_variable_gives_no_secret(tmp_path: Path) -> None:
    held = tmp_path / "password"
    held.write_text("held")
    empty = {"STREAM_ENSEMBLE__REDIS__PASSWORD": "", "STREAM_ENSEMBLE__REDIS__PASSWORD_FILE": ""}
    assert settings_file.loads(ENSEMBLE, empty).redis.password is None
    given = empty | {"STREAM_ENSEMBLE__REDIS__PASSWORD": "given"}
    assert settings_file.loads(ENSEMBLE, given).redis.password == Secret("given")
    in_a_file = empty | {"STREAM_ENSEMBLE__REDIS__PASSWORD_FILE": str(held)}
    assert settings_file.loads(ENSEMBLE, in_a_file).redis.password == Secret("held")
