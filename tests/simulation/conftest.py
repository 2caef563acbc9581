"""Every test here runs the product in the simulation; what it would log is not looked at."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.simulation.seams import simulated


@pytest.fixture(autouse=True)
def in_simulation() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    try:
        with simulated():
            yield
    finally:
        logging.disable(logging.NOTSET)
