"""Our messages are logged as ``worker.log_level`` says, those of libraries as Faust's ``--loglevel`` does."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Literal
from unittest.mock import patch

import pytest
from faust.utils.terminal import Spinner, SpinnerHandler

from stream_ensemble import worker
from stream_ensemble.config import Settings, Worker

OURS = logging.getLogger("stream_ensemble.some.module")
THEIRS = logging.getLogger("aiokafka.some.module")


class Log:
    """What the handler of the root logger writes, set up as ``faust worker --loglevel warn`` does."""

    def __init__(self) -> None:
        self._written = io.StringIO()
        self.handler = logging.StreamHandler(self._written)
        self.handler.setLevel(logging.WARNING)

    def settle(self, level: Literal["DEBUG", "INFO", "ERROR"]) -> None:
        # In the test itself: around it pytest adds handlers of its own.
        spinner = SpinnerHandler(Spinner(io.StringIO()), level=logging.DEBUG)
        root = logging.getLogger()
        root.setLevel(logging.DEBUG)
        with patch.object(root, "handlers", [self.handler, spinner]):
            worker.settle_logging(Settings(ensembles={}, worker=Worker(log_level=level)))
        root.addHandler(self.handler)

    def words(self) -> list[str]:
        return self._written.getvalue().split()


@pytest.fixture
def log() -> Iterator[Log]:
    root, ours = logging.getLogger(), logging.getLogger("stream_ensemble")
    levels = root.level, ours.level
    log = Log()
    yield log
    root.removeHandler(log.handler)
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def test_ours_are_written_from_the_level_of_the_settings_on(log: Log) -> None:
    log.settle("INFO")
    OURS.debug("a")
    OURS.info("b")
    OURS.warning("c")
    assert log.words() == ["b", "c"]


def test_less_of_ours_may_be_asked_for_than_of_others(log: Log) -> None:
    log.settle("ERROR")
    OURS.warning("a")
    OURS.error("b")
    THEIRS.warning("c")
    assert log.words() == ["b", "c"]


def test_what_faust_would_drop_is_not_made(log: Log) -> None:
    log.settle("DEBUG")
    assert not THEIRS.isEnabledFor(logging.INFO)
    assert THEIRS.isEnabledFor(logging.WARNING)
    OURS.debug("a")
    assert log.words() == ["a"]
