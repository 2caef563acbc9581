"""stream_ensemble: independent models answer over Kafka; their answers are joined, fused and learned from.

What applications use stands in ``stream_ensemble.sdk`` and can be imported from here as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_ensemble.sdk import (
        FeedbackPublisher,
        FusedConsumer,
        FusedRecord,
        InvalidInputError,
        ModelWorker,
        PredictionPublisher,
        RefusedError,
        Request,
        RequestPublisher,
    )

__all__ = [
    "FeedbackPublisher",
    "FusedConsumer",
    "FusedRecord",
    "InvalidInputError",
    "ModelWorker",
    "PredictionPublisher",
    "RefusedError",
    "Request",
    "RequestPublisher",
]


def __getattr__(name: str) -> Any:
    # Looked up when asked for: the core, which every module's import passes by, needs no Kafka client.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from stream_ensemble import sdk

    return getattr(sdk, name)
