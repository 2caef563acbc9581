"""How far in time labels have been read, also while there are none."""

from __future__ import annotations

from stream_ensemble.learner.feedback_clock import FeedbackClock


def test_a_label_shows_its_own_append_time_and_time_never_goes_back() -> None:
    clock = FeedbackClock()
    clock.read_label(100)
    clock.read_label(50)
    assert clock.until == 100


def test_no_labels_after_a_fused_record_was_read_shows_that_records_time() -> None:
    clock = FeedbackClock()
    clock.read_fused(500, now=10.0)
    assert clock.until == 0
    clock.at_end(asked_at=10.0)
    assert clock.until == 500


def test_an_answer_to_a_question_asked_before_the_fused_record_was_read_proves_nothing() -> None:
    clock = FeedbackClock()
    clock.read_fused(500, now=10.0)
    clock.at_end(asked_at=9.9)
    assert clock.until == 0


def test_a_stream_of_fused_records_does_not_put_the_proof_off_for_ever() -> None:
    clock = FeedbackClock()
    for second in range(10):
        clock.read_fused(500 + second, now=10.0 + second)
    clock.at_end(asked_at=10.5)
    assert clock.until == 500
    clock.read_fused(600, now=20.0)
    clock.at_end(asked_at=20.5)
    assert clock.until == 600


def test_an_old_fused_record_takes_nothing_back() -> None:
    clock = FeedbackClock()
    clock.read_label(1000)
    clock.read_fused(500, now=1.0)
    clock.at_end(asked_at=2.0)
    assert clock.until == 1000
