"""A short run of what ``make fuzz`` does for longer."""

from __future__ import annotations

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import scripts
from tests.fuzz.mutations import near
from tests.fuzz.targets import TARGETS, try_one

_SETTINGS = settings(max_examples=60, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_right_is_read(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].read(seed)


@pytest.mark.parametrize("name", TARGETS)
@_SETTINGS
@given(data=st.data())
def test_bytes_are_read_or_refused_as_promised(name: str, data: st.DataObject) -> None:
    try_one(name, data.draw(near(TARGETS[name].seeds)))


@_SETTINGS
@given(scripts.names, st.none() | scripts.values, scripts.fields, scripts.afters)
def test_scripts_do_what_they_say(
    redis_url: str, name: bytes, stored: bytes | None, field: bytes, after: bytes
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        scripts.try_scripts(client, name, stored, field, after)
