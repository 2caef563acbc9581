"""The command line without servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import stream_ensemble
from stream_ensemble import compiled
from stream_ensemble.cli.main import COMMANDS, main


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_init_writes_passes_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 0
    assert main(["check"]) == 0
    assert "settings of example: all well" in capsys.readouterr().out


def test_check_warns_where_the_kernels_were_not_built(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["init"])
    capsys.readouterr()
    monkeypatch.setattr(compiled, "AVAILABLE", False)
    assert main(["check"]) == 0
    said = capsys.readouterr().out
    assert "warning: this installation: the compiled kernels are not there" in said
    assert "install a C compiler" in said and "0 errors, 1 warnings" in said


def test_init_overwrites_only_when_forced(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = empty_folder / "mine.toml"
    file.write_text("mine")
    assert main(["init", "mine.toml"]) == 2
    assert capsys.readouterr().err == "stream-ensemble: mine.toml is there already; --force overwrites it\n"
    assert file.read_text() == "mine"
    assert main(["init", "mine.toml", "--force"]) == 0
    assert "[ensembles.example]" in file.read_text()


def test_init_into_a_folder_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "gone/ensemble.toml"]) == 2
    assert capsys.readouterr().err == (
        "stream-ensemble: gone/ensemble.toml cannot be written: No such file or directory\n"
    )


def test_a_missing_settings_file_is_one_line_that_names_init(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "stream-ensemble: ensemble.toml: no such file; `stream-ensemble init ensemble.toml`"
    )


def test_check_names_a_wrong_setting_and_answers_2(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["init"])
    monkeypatch.setenv("STREAM_ENSEMBLE__ENSEMBLES__example__QUORUM", "9")
    capsys.readouterr()
    assert main(["check"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("ensembles.example.quorum = 9: expected at most 3, the number of members")
    assert main(["check", "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert "quorum = 9" in report["findings"][0]["problem"]


def test_check_says_what_answers_in_transactions_cost(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["init"])
    capsys.readouterr()
    assert main(["check"]) == 0
    assert "note:" not in capsys.readouterr().out
    monkeypatch.setenv("STREAM_ENSEMBLE__KAFKA__DELIVERY", "transactions")
    monkeypatch.setenv("STREAM_ENSEMBLE__KAFKA__TRANSACTION_INTERVAL_MS", "250")
    assert main(["check"]) == 0
    assert "up to 250 ms and a commit later" in capsys.readouterr().out
    assert main(["check", "--json"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert "read_committed" in note


def test_check_names_a_tls_file_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["init"])
    monkeypatch.setenv("STREAM_ENSEMBLE__KAFKA__SECURITY_PROTOCOL", "SSL")
    monkeypatch.setenv("STREAM_ENSEMBLE__KAFKA__SSL_CAFILE", "gone.pem")
    capsys.readouterr()
    assert main(["check"]) == 2
    expected = 'stream-ensemble: kafka.ssl_cafile = "gone.pem": cannot be read: No such file or directory\n'
    assert capsys.readouterr().err == expected


def test_servers_that_are_not_there_are_named_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["init"])
    monkeypatch.setenv("STREAM_ENSEMBLE__KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("STREAM_ENSEMBLE__REDIS__URL", "redis://127.0.0.1:1/0")
    capsys.readouterr()
    assert main(["check", "--connect"]) == 1
    said = capsys.readouterr()
    assert "Kafka at 127.0.0.1:1: connection refused" in said.out
    assert "Redis at 127.0.0.1:1/0: no connection" in said.out
    assert main(["topics", "create"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stream-ensemble: Kafka at 127.0.0.1:1: connection refused")


@pytest.mark.parametrize(
    "arguments", [[], ["nothing"], ["topics"], ["topics", "remove"], ["check", "--nothing"]]
)
def test_wrong_usage_answers_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert all(f"    {name} " in said for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert f"usage: stream-ensemble {command}" in capsys.readouterr().out


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("stream-ensemble ")


def test_a_command_does_not_load_what_only_others_need() -> None:
    program = (
        "import sys; from stream_ensemble.cli.main import main; main(['init', '--force']); "
        "print([name for name in ('torch', 'aiokafka', 'redis', 'sklearn') if name in sys.modules])"
    )
    paths = os.pathsep.join([str(Path(stream_ensemble.__file__).parents[1]), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_package_that_is_missing_is_one_line_with_what_to_install(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty_folder / "needs_more.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(empty_folder)
    monkeypatch.setitem(COMMANDS, "demo", ("needs_more", "show the main job"))
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == (
        "stream-ensemble: demo needs the package a_package_that_is_not_there: "
        "pip install 'stream-ensemble[demo]'\n"
    )


def test_an_interrupt_ends_a_command_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("stream_ensemble.cli.init.run", interrupted)
    assert main(["init"]) == 130
    assert capsys.readouterr().err == ""
