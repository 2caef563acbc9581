"""What proves that a prediction did not come, and who is silent."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ensemble.core.join.progress import SEVERAL, Progress, furthest_ahead

SILENCE = 2.0


@pytest.fixture
def progress() -> Progress:
    return Progress(2, [0, 1], SILENCE)


def given_up(progress: Progress, due_appended: int = 1000, due_monotonic: float = 50.0) -> bool:
    return bool(progress.given_up(0, np.array([due_appended]), np.array([due_monotonic]))[0])


def test_a_record_appended_after_the_due_is_proof(progress: Progress) -> None:
    progress.read(0, 999, 10)
    assert not given_up(progress)
    progress.read(0, 1000, 11)
    assert given_up(progress)


def test_the_end_is_proof_when_asked_for_after_the_due(progress: Progress) -> None:
    progress.read(0, 10, 7)
    progress.at_end(0, 49.9, 7)
    assert not given_up(progress)
    progress.at_end(0, 50.0, 7)
    assert given_up(progress)


def test_an_end_beyond_what_was_processed_proves_nothing(progress: Progress) -> None:
    progress.read(0, 10, 7)
    assert not progress.at_end(0, 60.0, 8)
    assert not given_up(progress)


def test_another_topic_proves_nothing(progress: Progress) -> None:
    progress.read(1, 5000, 10)
    progress.at_end(1, 90.0, 10)
    assert not given_up(progress)


def test_an_unreadable_topic_is_given_up(progress: Progress) -> None:
    progress.topics[0].unreadable = True
    assert given_up(progress)


def silent_after(progress: Progress, missed: int, asked: list[float]) -> bool:
    progress.read(0, 10, 7)
    progress.heard(0)
    progress.expecting(0.0)
    progress.missed(0, missed)
    for moment in asked:
        progress.at_end(0, moment, 7)
    return bool(progress.silent[0])


def test_a_member_expected_several_times_and_not_heard_for_the_window_is_silent(progress: Progress) -> None:
    assert silent_after(progress, SEVERAL, [1.0, 2.0, 3.0])


def test_less_than_the_window_is_not_silence(progress: Progress) -> None:
    assert not silent_after(progress, SEVERAL, [1.0, 2.9])


def test_a_member_nobody_missed_is_not_silent(progress: Progress) -> None:
    assert not silent_after(progress, SEVERAL - 1, [1.0, 2.0, 3.0, 4.0])


def test_a_member_is_back_at_its_first_record(progress: Progress) -> None:
    assert silent_after(progress, SEVERAL, [1.0, 2.0, 3.0])
    progress.heard(0)
    assert not progress.silent[0]
    for moment in (4.0, 5.0, 6.0, 7.0):
        progress.at_end(0, moment, 7)
    assert not progress.silent[0]


def test_our_own_down_time_makes_nobody_silent(progress: Progress) -> None:
    # Nothing was asked while the process was away: the window starts at the first end seen after it.
    assert not silent_after(progress, SEVERAL, [1000.0])


def test_the_time_in_which_nobody_looked_makes_nobody_silent(progress: Progress) -> None:
    # The brokers were away, or this process was stopped, and what the member says now is not read yet.
    assert not silent_after(progress, SEVERAL, [1.0, 1.5, 11.5, 12.5])
    progress.at_end(0, 13.5, 7)
    assert progress.silent[0]


def test_a_member_that_was_silent_before_nobody_looked_may_have_spoken_since(progress: Progress) -> None:
    assert silent_after(progress, SEVERAL, [1.0, 2.0, 3.0])
    assert progress.is_quiet(0, 3.1)
    assert not progress.is_quiet(0, 6.1)
    progress.at_end(0, 9.0, 7)
    assert not progress.silent[0]
    assert not progress.some_silent


def test_just_now_is_three_of_the_usual_pauses_between_looks(progress: Progress) -> None:
    assert silent_after(progress, SEVERAL, [1.0, 1.75, 2.5, 3.25])
    assert progress.is_quiet(0, 5.5)
    assert not progress.is_quiet(0, 5.51)


def test_a_member_is_expected_from_the_first_request_on_not_from_the_last_record(progress: Progress) -> None:
    progress.read(0, 10, 7)
    progress.heard(0)
    for moment in range(1, 100):
        progress.at_end(0, float(moment), 7)
    progress.expecting(99.5)
    progress.missed(0, SEVERAL)
    progress.at_end(0, 100.0, 7)
    progress.at_end(0, 101.0, 7)
    assert not progress.silent[0]
    progress.at_end(0, 102.0, 7)
    assert progress.silent[0]


def test_the_topics_ahead_are_held_and_the_one_behind_goes_on() -> None:
    assert furthest_ahead([50, 10, 30], [False, False, False]) == [True, False, True]


def test_a_topic_at_its_end_holds_nobody_up() -> None:
    assert furthest_ahead([50, -1, 30], [False, True, False]) == [True, False, False]


def test_nothing_is_held_when_all_is_read() -> None:
    assert furthest_ahead([50, -1], [True, True]) == [False, False]


def test_equals_all_go_on() -> None:
    assert furthest_ahead([7, 7], [False, False]) == [False, False]


def test_a_topic_that_nobody_writes_to_keeps_nothing_in_mind() -> None:
    progress = Progress(3, [0, 1], silence_after=2.0)
    progress.note_idle(0.0, 600.0)
    progress.read(0, 5_000_000, 10)
    progress.read(1, 4_000_000, 10)
    progress.note_idle(1000.0, 600.0)
    assert progress.oldest_log_time() == -1, "where its end is, nobody knows"
    progress.at_end(2, 1000.0, -1)
    progress.note_idle(1000.0, 600.0)
    assert progress.oldest_log_time() == 4_000_000
    # What came since it was looked at may be as old as that.
    progress.note_idle(1300.0, 600.0)
    assert progress.oldest_log_time() == -1


def test_a_topic_is_idle_until_something_comes_and_not_before_its_time() -> None:
    progress = Progress(2, [0, 1], silence_after=2.0)
    for second in range(0, 1300, 10):
        progress.read(0, 1000 * second, second)
        if second == 0:
            progress.read(1, 500, 0)
        progress.at_end(1, float(second), 0)
        progress.note_idle(float(second), 600.0)
        assert progress.oldest_log_time() == min(1000 * second, 500) if second <= 600 else 1000 * second
    progress.read(1, 1_280_000, 1)
    progress.note_idle(1300.0, 600.0)
    assert progress.oldest_log_time() == 1_280_000


def test_where_all_are_idle_nothing_is_known_anew() -> None:
    progress = Progress(2, [0, 1], silence_after=2.0)
    progress.read(0, 700, 0)
    progress.read(1, 500, 0)
    progress.note_idle(0.0, 600.0)
    for topic in range(2):
        progress.at_end(topic, 1000.0, 0)
    progress.note_idle(1000.0, 600.0)
    assert progress.oldest_log_time() == 500
