"""What applications import: publish requests, predictions and labels, run a model, read the answers."""

from stream_ensemble.sdk.answering import Request
from stream_ensemble.sdk.errors import InvalidInputError, RefusedError
from stream_ensemble.sdk.feedback import FeedbackPublisher
from stream_ensemble.sdk.fused import FusedConsumer
from stream_ensemble.sdk.fused_records import FusedRecord
from stream_ensemble.sdk.predictions import PredictionPublisher
from stream_ensemble.sdk.requests import RequestPublisher
from stream_ensemble.sdk.worker import ModelWorker

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
