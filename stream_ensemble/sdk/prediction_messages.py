"""One prediction as a message."""

from __future__ import annotations

from stream_ensemble.messages import Prediction

#: An error's text is for people; a model's whole traceback does not belong in a topic.
_LONGEST_ERROR = 500


def answer(
    request_id: str,
    member: str,
    output: list[float] | None,
    *,
    at: int | None = None,
    segment: str | None = None,
) -> Prediction:
    """The prediction that carries ``output``, or abstains without one."""
    return Prediction(
        version=1,
        kind="prediction",
        request_id=request_id,
        member=member,
        at=at,
        output=output,
        abstain=output is None,
        segment=segment,
    )


def failure(
    request_id: str, member: str, text: str, *, at: int | None = None, segment: str | None = None
) -> Prediction:
    """The prediction that says ``member`` failed with ``text``."""
    return Prediction(
        version=1,
        kind="prediction",
        request_id=request_id,
        member=member,
        at=at,
        error=error_text(text),
        segment=segment,
    )


def error_text(text: str) -> str:
    """What of an error's ``text`` is published."""
    return text[:_LONGEST_ERROR].encode("utf-8", "replace").decode() or "unknown"
