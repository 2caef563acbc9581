"""The exceptions of stream_ensemble, in one tree.

Errors carry policy: ``retriable`` says whether the same call may succeed later without anyone's help.
"""

from __future__ import annotations


class StreamEnsembleError(Exception):
    """Base of every error this package raises on purpose."""

    retriable = False


class SettingsError(StreamEnsembleError):
    """A setting is missing, unknown or wrong. The message names the key, the value and what is expected."""


class ServerUnavailableError(StreamEnsembleError):
    """Kafka or Redis cannot be reached. The message names the address and what to check."""

    retriable = True


class TopologyError(StreamEnsembleError):
    """The topics of an ensemble are not as the design needs them; ``stream-ensemble check`` lists what is
    wrong.
    """


class RecordError(StreamEnsembleError):
    """A record cannot be read or used. It goes to the dead-letter topic with ``reason`` and ``detail``.

    Args:
        reason: a short stable word for counting, e.g. ``"not-json"``.
        detail: one line a person understands, with the field's path where there is one.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class FencedError(StreamEnsembleError):
    """Another owner of the partition has taken over; this process must drop it."""


class StateError(StreamEnsembleError):
    """A stored state (weights record, Redis value, credit block) is damaged, too short or of another kind."""
