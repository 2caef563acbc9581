"""Reading ensemble.toml: what is read, and what is said about what is wrong."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from stream_ensemble import settings_file
from stream_ensemble.config import Secret, Settings
from stream_ensemble.errors import SettingsError
from stream_ensemble.settings import kinds

MINIMAL = """
[ensembles.digits]
members = ["forest", "network", "neighbours"]
[ensembles.digits.task]
classes = ["cat", "dog", "other"]
"""


def with_line(line: str, table: str = "[ensembles.digits]") -> str:
    """The minimal file with ``line`` in ``table``."""
    if table in MINIMAL:
        return MINIMAL.replace(table, f"{table}\n{line}")
    return f"{MINIMAL}\n{table}\n{line}\n"


def problems(text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        settings_file.loads(text, environ, "ensemble.toml")
    return str(caught.value)


def test_a_minimal_file_gets_the_defaults_of_config() -> None:
    settings = settings_file.loads(MINIMAL)
    assert settings.kafka.bootstrap_servers == ["127.0.0.1:9092"]
    assert settings.ensembles["digits"].deadline_ms == 1000
    assert settings.ensembles["digits"].learning.algorithm == "bank"


@pytest.mark.parametrize(
    ("line", "table", "message"),
    [
        (
            "deadline_ms = -5",
            "[ensembles.digits]",
            "ensembles.digits.deadline_ms = -5: expected a whole number >= 1",
        ),
        (
            "early_decision = true",
            "[ensembles.digits]",
            'ensembles.digits.early_decision = true: expected false with learning.algorithm "bank" '
            "(the default): it does not pool linearly, so nothing is certain before all have answered; to "
            'decide early, choose learning.algorithm "ml_poly"',
        ),
        (
            'algorithm = "boa"',
            "[ensembles.digits.learning]",
            'ensembles.digits.learning.algorithm = "boa": its weights depend on the order of the labels',
        ),
        (
            'deadline_ms = "1s"',
            "[ensembles.digits]",
            'ensembles.digits.deadline_ms = "1s": expected a whole number',
        ),
        (
            "deadline_ms = true",
            "[ensembles.digits]",
            "ensembles.digits.deadline_ms = true: expected a whole number",
        ),
        (
            "deadline = 5",
            "[ensembles.digits]",
            "ensembles.digits.deadline: unknown key; did you mean deadline_ms?",
        ),
        ("xyzzy = 5", "[worker]", "worker.xyzzy: unknown key; known here: data_dir, log_level"),
        ("timeout_s = inf", "[redis]", "redis.timeout_s = inf: expected a number > 0 and <= 60"),
        ("timeout_s = nan", "[redis]", "redis.timeout_s = nan: expected a number > 0 and <= 60"),
        ("half_life = inf", "[ensembles.digits.learning]", "half_life = inf: expected a finite number"),
        ("prior = [0.5, nan, 0.5]", "[ensembles.digits]", "digits.prior[1] = nan: expected a finite number"),
        ('log_level = "debug"', "[worker]", 'worker.log_level = "debug": expected one of "DEBUG", "ERROR"'),
        (
            'bootstrap_servers = ["a..b:1"]',
            "[kafka]",
            'kafka.bootstrap_servers[0] = "a..b:1": expected host:port',
        ),
        ('bootstrap_servers = ["a"]', "[kafka]", 'kafka.bootstrap_servers[0] = "a": expected host:port'),
        (
            'bootstrap_servers = ["a:1", "b:0"]',
            "[kafka]",
            'kafka.bootstrap_servers[1] = "b:0": expected a port of 1',
        ),
        ("bootstrap_servers = []", "[kafka]", "kafka.bootstrap_servers = []: expected a list of at least 1"),
        ('url = "http://x"', "[redis]", 'redis.url = "http://x": expected a URL as redis://HOST:PORT/DB'),
        (
            'url = "redis://x:99999/0"',
            "[redis]",
            'redis.url = "redis://x:99999/0": expected a port of 1 to 65535',
        ),
        ('url = "redis://x:1/zero"', "[redis]", "expected the number of a database"),
        ('url = "redis+cluster://x:1,y:99999"', "[redis]", "expected a port of 1 to 65535"),
        ('url = "redis+cluster://x:1,"', "[redis]", "expected a port of 1 to 65535 after the host"),
        ('url = "redis+cluster://x:1/3"', "[redis]", "expected no database: a cluster has but one"),
        (
            "quorum = 4",
            "[ensembles.digits]",
            "ensembles.digits.quorum = 4: expected at most 3, the number of members",
        ),
        ("prior = [0.5, 0.5]", "[ensembles.digits]", "ensembles.digits.prior: expected 3 probabilities"),
        (
            "prior = [0.5, 0.5, 0.5]",
            "[ensembles.digits]",
            "ensembles.digits.prior: expected probabilities that sum to 1",
        ),
        (
            "silence_after_ms = 1999",
            "[ensembles.digits]",
            "silence_after_ms = 1999: expected at least two deadlines",
        ),
        (
            "learning.guardrail.back_at = 0.1",
            "[ensembles.digits]",
            "learning.guardrail.back_at = 0.1: expected at most worse_by, which is 0.05",
        ),
        (
            "learning.guardrail.least_labels = 201",
            "[ensembles.digits]",
            "learning.guardrail.least_labels = 201",
        ),
        ('shadows = ["s", "s"]', "[ensembles.digits]", '"s" stands there 2 times'),
        (
            'shadows = ["forest"]',
            "[ensembles.digits]",
            'ensembles.digits.shadows = "forest": expected no member of `members`: it is awaited already',
        ),
        (
            f"shadows = {[f's{n}' for n in range(62)]}",
            "[ensembles.digits]",
            "expected at most 64 members and shadows together",
        ),
        (
            "learning.admission.share = 1.0",
            "[ensembles.digits]",
            "ensembles.digits.learning.admission.share = 1.0: expected",
        ),
        (
            "lateness_horizon_s = 0.5",
            "[ensembles.digits]",
            "lateness_horizon_s = 0.5: expected at least the deadline",
        ),
        ('topics = "x"', "[ensembles.digits]", 'ensembles.digits.topics = "x": expected a table'),
        ('late = "{ensemble}.fused"', "[ensembles.digits.topics]", "used by ensembles.digits.topics.fused"),
        ('late = "{ensemble}_fused"', "[ensembles.digits.topics]", "used by ensembles.digits.topics.fused"),
        (
            'late = "{member}"',
            "[ensembles.digits.topics]",
            'topics.late = "{member}": {member} cannot be filled in',
        ),
        (
            'late = "a b"',
            "[ensembles.digits.topics]",
            'digits.topics.late = "a b": expected 1 to 249 letters',
        ),
        ('late = ""', "[ensembles.digits.topics]", 'digits.topics.late = "": expected 1 to 249 letters'),
        (
            'algorithm = "fixed"',
            "[ensembles.digits.learning]",
            'learning.weights: missing; algorithm "fixed" needs',
        ),
        ("weights = {forest = 1}", "[ensembles.digits.learning]", 'weights: used only by algorithm "fixed"'),
        (
            "session_timeout_s = 50",
            "[kafka]",
            "kafka.session_timeout_s = 50.0: expected at most request_timeout_s",
        ),
        ("heartbeat_interval_s = 5", "[kafka]", "kafka.heartbeat_interval_s = 5.0: expected at most a third"),
        (
            'sasl_username = "u"',
            "[kafka]",
            'security_protocol = "PLAINTEXT": expected SASL_PLAINTEXT or SASL_SSL',
        ),
        (
            'security_protocol = "SASL_SSL"',
            "[kafka]",
            "kafka.sasl_password: missing; needed with security_protocol",
        ),
        ('ssl_cafile = "x"', "[kafka]", 'kafka.security_protocol = "PLAINTEXT": expected SSL or SASL_SSL'),
        ('ssl_cafile = "x"', "[redis]", 'redis.url = "redis://127.0.0.1:6379/0": expected rediss://'),
        (
            'url = "redis+cluster://x:1"\nssl_cafile = "x"',
            "[redis]",
            'redis.url = "redis+cluster://x:1": expected rediss+cluster://',
        ),
        ('username = "u"', "[redis]", "redis.password: missing; needed with username"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_what_is_expected(
    line: str, table: str, message: str
) -> None:
    assert message in problems(with_line(line, table))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"neighbours"]',
            '"forest"]',
            'digits.members: expected different names; "forest" stands there 2 times',
        ),
        ('"other"]', '"cat"]', 'digits.task.classes: expected different names; "cat" stands there 2 times'),
        (
            '"neighbours"]',
            '"a b"]',
            'ensembles.digits.members[2] = "a b": expected a name of 1 to 64 letters',
        ),
        (
            'classes = ["cat", "dog", "other"]',
            "",
            "ensembles.digits.task.classes = []: expected at least 2 with kind classification",
        ),
        ("[ensembles.digits]", '[ensembles."a b"]', 'ensembles."a b": expected a name of 1 to 64 letters'),
    ],
)
def test_a_wrong_list_or_name_is_named(old: str, new: str, message: str) -> None:
    assert message in problems(MINIMAL.replace(old, new))


def test_a_file_without_an_ensemble_says_so() -> None:
    assert "ensembles: missing" in problems("")
    assert "expected at least one table, as [ensembles.NAME]" in problems("ensembles = {}")


def test_all_problems_are_said_at_once() -> None:
    text = with_line("deadline_ms = 0\nquorum = 0\npartitions = 0\nsilent = 1")
    lines = problems(text).splitlines()
    assert lines[0] == "ensemble.toml: 4 settings are wrong:"
    assert [line.split()[0].rstrip(":") for line in lines[1:]] == [
        "ensembles.digits.silent",
        "ensembles.digits.partitions",
        "ensembles.digits.deadline_ms",
        "ensembles.digits.quorum",
    ]


def test_two_ensembles_may_not_share_a_topic() -> None:
    second = MINIMAL.replace("digits", "letters") + '\n[ensembles.letters.topics]\nfused = "digits.fused"\n'
    assert 'ensembles.letters.topics.fused = "digits.fused": expected a topic of its own' in problems(
        MINIMAL + second
    )


def test_members_whose_topics_kafka_takes_for_the_same_are_refused() -> None:
    text = MINIMAL.replace('"forest", "network"', '"a.b", "a_b"')
    assert "ensembles.digits.topics.predictions" in problems(text)


def test_members_may_share_one_predictions_topic() -> None:
    settings = settings_file.loads(with_line('predictions = "answers"', "[ensembles.digits.topics]"))
    assert settings.ensembles["digits"].topics.predictions == "answers"


def test_an_ensemble_may_have_no_requests_topic() -> None:
    settings = settings_file.loads(with_line('requests = ""', "[ensembles.digits.topics]"))
    assert settings.ensembles["digits"].topics.requests == ""


def test_fixed_weights_must_name_exactly_the_members() -> None:
    table = "[ensembles.digits.learning]"
    given = 'algorithm = "fixed"\nweights = {forest = 1.0, netwrok = 1.0}'
    message = problems(with_line(given, table))
    assert "learning.weights.netwrok: no such member" in message
    assert "learning.weights.network: missing" in message
    zero = 'algorithm = "fixed"\nweights = {forest = 0, network = 0, neighbours = 0}'
    assert "expected at least one weight above 0" in problems(with_line(zero, table))
    right = 'algorithm = "fixed"\nweights = {forest = 1, network = 2, neighbours = 0}'
    assert settings_file.loads(with_line(right, table)).ensembles["digits"].learning.weights == {
        "forest": 1.0,
        "network": 2.0,
        "neighbours": 0.0,
    }


def test_the_word_none_takes_a_default_away() -> None:
    settings = settings_file.loads(with_line('half_life = "none"', "[ensembles.digits.learning]"))
    assert settings.ensembles["digits"].learning.half_life is None


def test_a_file_that_is_not_toml_is_named_with_the_line() -> None:
    assert problems("[kafka\n").startswith("ensemble.toml: not TOML: ")
    assert "line 1" in problems("[kafka\n")


def test_a_missing_file_names_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"no such file; `stream-ensemble init .*ensemble\.toml` writes one"
    ):
        settings_file.load(tmp_path / "ensemble.toml", {})


def test_the_file_named_by_the_environment_is_read(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text(MINIMAL)
    assert "digits" in settings_file.load(None, {"STREAM_ENSEMBLE_CONFIG": str(file)}).ensembles


def test_a_file_that_is_not_text_and_a_directory_are_one_clear_line(tmp_path: Path) -> None:
    binary = tmp_path / "ensemble.toml"
    binary.write_bytes(b"\xff\xfe")
    for path, reason in ((binary, "not UTF-8 text"), (tmp_path, "Is a directory")):
        with pytest.raises(SettingsError, match=re.escape(f"{path}: cannot be read: {reason}")):
            settings_file.load(path, {})


def test_the_template_is_valid_and_has_the_defaults() -> None:
    settings = settings_file.loads(settings_file.template())
    (ensemble,) = settings.ensembles.values()
    assert settings == Settings(ensembles={"example": ensemble})
    assert ensemble == msgspec.structs.replace(
        settings_file.loads(MINIMAL).ensembles["digits"], members=ensemble.members, task=ensemble.task
    )


def test_every_line_of_the_template_may_be_uncommented() -> None:
    text = re.sub(r"^# (\w+ = )", r"\1", settings_file.template(), flags=re.MULTILINE)
    named = tomllib.loads(text)
    assert settings_of(named) == every_setting()
    without_rivals = text.replace('security_protocol = "PLAINTEXT"', 'security_protocol = "SASL_SSL"')
    without_rivals = without_rivals.replace("redis://127", "rediss://127").replace('"bank"', '"fixed"')
    settings = settings_file.loads(without_rivals)
    assert settings.kafka.sasl_password == Secret("…")


def settings_of(tree: dict[str, object], above: str = "") -> set[str]:
    """Dotted names of all leaves, with ``*`` for an ensemble's name; the weights of members count as one."""
    names: set[str] = set()
    for key, value in tree.items():
        name = "*" if above == "ensembles." else key
        deeper = (isinstance(value, dict) and key != "weights") or key == "topics"
        names |= (
            settings_of(value, f"{above}{name}.") if deeper and isinstance(value, dict) else {above + name}
        )
    return names


def every_setting(table: type[msgspec.Struct] = Settings, above: str = "") -> set[str]:
    names: set[str] = set()
    for name, field in kinds.fields(table).items():
        if (inner := kinds.table_of(field.type)) is not None:
            names |= every_setting(inner, f"{above}{name}.")
        elif (inner := kinds.tables_of(field.type)) is not None:
            names |= every_setting(inner, f"{above}{name}.*.")
        else:
            names.add(above + name)
    return names


def test_every_setting_has_a_description() -> None:
    undescribed = [
        name for name, kind in all_kinds(Settings) if not kinds.description(kind) and not kinds.table_of(kind)
    ]
    assert undescribed == []


def all_kinds(table: type[msgspec.Struct]) -> list[tuple[str, msgspec.inspect.Type]]:
    found: list[tuple[str, msgspec.inspect.Type]] = []
    for name, field in kinds.fields(table).items():
        found.append((f"{table.__name__}.{name}", field.type))
        inner = kinds.table_of(field.type) or kinds.tables_of(field.type)
        found += all_kinds(inner) if inner else []
    return found


def test_what_is_dumped_is_read_back_the_same() -> None:
    text = MINIMAL + (
        '[kafka]\nsecurity_protocol = "SASL_PLAINTEXT"\n'
        'sasl_mechanism = "PLAIN"\nsasl_username = "u\\u007f"\n'
        'sasl_password = "p\\"\\\\w"\n[ensembles.digits.learning]\nhalf_life = "none"\n'
    )
    settings = settings_file.loads(text)
    assert settings_file.loads(settings_file.dump(settings, reveal_secrets=True)) == settings
