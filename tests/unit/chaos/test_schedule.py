"""Schedules of ``make chaos``: decided by the seed alone, and made of faults that exist."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.schedule import (
    Mode,
    delivery_of,
    faults_of,
    random_schedule,
    short_schedule,
    spaced_schedule,
)

MODES: list[Mode] = ["one", "three"]


@pytest.mark.parametrize("mode", MODES)
def test_a_seed_gives_the_same_schedule_and_others_give_others(mode: Mode) -> None:
    assert random_schedule(5, mode) == random_schedule(5, mode)
    assert len({random_schedule(seed, mode).events for seed in range(50)}) == 50


@pytest.mark.parametrize("mode", MODES)
def test_twenty_seeds_have_every_fault_and_last_no_longer_than_two_minutes(mode: Mode) -> None:
    schedules = [random_schedule(seed, mode) for seed in range(1, 21)]
    assert {event.fault for schedule in schedules for event in schedule.events} == set(faults_of(mode))
    assert max(schedule.traffic_s for schedule in schedules) < 120
    assert {schedule.near_last_epoch for schedule in schedules} == {True, False}


def test_every_fault_can_be_done() -> None:
    assert {fault for mode in MODES for fault in faults_of(mode)} == set(FAULTS)
    assert {event.fault for event in short_schedule(1).events} <= set(FAULTS)


def test_spaced_faults_do_not_overlap() -> None:
    events = spaced_schedule(1, "three", list(faults_of("three"))).events
    for earlier, later in pairwise(events):
        assert later.at_s >= earlier.at_s + earlier.lasts_s + 10


def test_some_seeds_have_answers_in_transactions_with_either_number_of_brokers() -> None:
    modes = [delivery_of(seed) for seed in range(1, 25)]
    assert modes.count("transactions") == 6
    # Every third seed has three brokers.
    assert "transactions" in modes[2::3] and "transactions" in modes[0::3]
