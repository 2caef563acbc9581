"""What several of these modules begin with."""

from __future__ import annotations

import asyncio

import pytest

from stream_ensemble import config
from tests.integration.sdk_topics import make_topics, settings_of


@pytest.fixture
def settings(kafka_bootstrap: str, ensemble_name: str, runner: asyncio.Runner) -> config.Settings:
    """The small ensemble of ``sdk_topics``, its topics made."""
    made = settings_of(kafka_bootstrap, ensemble_name)
    runner.run(make_topics(made))
    return made
