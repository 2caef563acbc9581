"""What docker-compose.yml and deploy/ name must exist: no engine runs here to find out."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_ensemble import settings_file
from stream_ensemble.cli.main import COMMANDS
from stream_ensemble.config import Settings
from stream_ensemble.demo import scenario

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"] == "stream-ensemble"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
MEMBER_WORKER = ["python", "-m", "stream_ensemble.demo.model_worker"]


@pytest.fixture(scope="module")
def settings() -> Settings:
    return settings_file.load(ROOT / "deploy" / "ensemble.toml", environ={})


def runs(command: list[str]) -> bool:
    """Whether what ``command`` starts exists in this package."""
    match command:
        case ["faust", "-A", module, "worker", "--web-port", "6066"]:
            return importlib.util.find_spec(module) is not None
        case ["python", "-m", module, *_]:
            return importlib.util.find_spec(module) is not None
        case ["stream-ensemble", name, *_]:
            return name in COMMANDS
    return False


@pytest.mark.parametrize("name", OURS)
def test_every_command_exists(name: str) -> None:
    assert runs(SERVICES[name]["command"])


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert not runs(["faust", "-A", "stream_ensemble.fusee", "worker", "--web-port", "6066"])
    assert not runs(["stream-ensemble", "topic"])


def test_both_workers_and_all_members_run(settings: Settings) -> None:
    assert {"fuse", "learn"} <= set(OURS)
    workers = [
        service["command"] for service in SERVICES.values() if service.get("command", [])[:3] == MEMBER_WORKER
    ]
    members = [member for ensemble in settings.ensembles.values() for member in ensemble.members]
    assert sorted(command[3] for command in workers) == sorted(members)


def test_the_ensemble_is_the_demos(settings: Settings) -> None:
    ensemble = settings.ensembles[scenario.ENSEMBLE]
    assert ensemble.members == list(scenario.MEMBERS)
    assert ensemble.task.classes == list(scenario.CLASSES)
    assert ensemble.deadline_ms == scenario.DEADLINE_MS
    assert ensemble.learning.algorithm == "bank"


def test_the_best_member_goes_bad_halfway() -> None:
    halfway = scenario.Plan().number_at(scenario.FAULT_AT)
    assert SERVICES[scenario.FAULTY]["command"][4:] == ["--corrupt-from", str(halfway)]


@pytest.mark.parametrize("name", OURS)
def test_the_settings_are_mounted_where_the_image_looks_for_them(name: str) -> None:
    [mount] = SERVICES[name]["volumes"]
    source, target, mode = mount.split(":")
    assert (ROOT / source).is_file()
    assert f"{settings_file.PATH_VARIABLE}={target}" in DOCKERFILE
    assert mode == "ro"


def test_the_servers_are_where_the_settings_say(settings: Settings) -> None:
    for address in (*settings.kafka.bootstrap_servers, settings.redis.url.split("/")[2]):
        host, _, port = address.partition(":")
        assert host in SERVICES
        assert port in str(SERVICES[host])


def test_the_images_environment_is_accepted() -> None:
    text = (ROOT / "deploy" / "ensemble.toml").read_text()
    names = [word for word in DOCKERFILE.split() if word.startswith("STREAM_ENSEMBLE__")]
    assert names
    settings = settings_file.loads(text, dict(name.split("=", 1) for name in names))
    assert settings.worker.data_dir == "/var/lib/stream-ensemble"


def test_whoever_is_waited_for_can_be() -> None:
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            awaited = SERVICES[name]
            if wait["condition"] == "service_completed_successfully":
                assert "restart" not in awaited
            else:
                assert not awaited.get("healthcheck", {}).get("disable")


def test_the_health_checks_ask_the_workers_web_port() -> None:
    assert "http://127.0.0.1:6066/health" in DOCKERFILE
    workers = [SERVICES[name] for name in OURS if SERVICES[name]["command"][0] == "faust"]
    assert all("healthcheck" not in worker for worker in workers)
    assert "EXPOSE 6066" in DOCKERFILE


def test_redis_keeps_its_data_and_evicts_nothing() -> None:
    command = SERVICES["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"


def test_a_worker_has_time_to_drain() -> None:
    assert all(int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > 10 for name in OURS)


def test_nothing_is_published_beyond_this_machine() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
