"""What the head of columnar predictions says, and the columns there may be."""

from __future__ import annotations

from typing import Final, Literal

from stream_ensemble.columnar.layout import Form, Head
from stream_ensemble.messages import Name


class PredictionsHead(Head, kw_only=True, frozen=True):
    """The head of columnar predictions."""

    kind: Literal["predictions"]
    member: Name


FORM: Final = Form(
    PredictionsHead,
    {
        "request_id": ("bytes", "text"),
        "output": ("<f4", "<f8"),
        "at": ("<i8",),
        "answer": ("u1",),
        "error": ("text",),
        "segment": ("text",),
        "traceparent": ("text",),
    },
)
