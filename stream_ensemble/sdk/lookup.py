"""Ensembles, members, keys and trace headers as the SDK's callers name them, checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble import config
from stream_ensemble.core.join.records import NO_TIME
from stream_ensemble.errors import SettingsError
from stream_ensemble.messages import HEADER_TRACE, Milliseconds, RequestId
from stream_ensemble.sdk.errors import InvalidInputError

Headers = list[tuple[str, bytes]]

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]*)?", re.ASCII)


def ensemble_of(settings: config.Settings, name: str) -> config.Ensemble:
    """The settings of ensemble ``name``.

    Raises:
        SettingsError: there is none of that name.
    """
    if name not in settings.ensembles:
        raise SettingsError(f"no ensemble {name!r} in the settings; there is {sorted(settings.ensembles)}")
    return settings.ensembles[name]


def predictions_topic(settings: config.Settings, ensemble: str, member: str) -> str:
    """The topic ``member`` publishes to.

    Raises:
        SettingsError: the ensemble or the member is unknown.
    """
    members = config.everyone(ensemble_of(settings, ensemble))
    if member not in members:
        raise SettingsError(f"no member {member!r} in ensemble {ensemble!r}; its members are {list(members)}")
    return config.topic_names(ensemble, settings.ensembles[ensemble]).predictions[members.index(member)]


def requests_topic(settings: config.Settings, ensemble: str) -> str:
    """The topic of the ensemble's requests.

    Raises:
        SettingsError: the ensemble is unknown or has no requests topic.
    """
    topic = config.topic_names(ensemble, ensemble_of(settings, ensemble)).requests
    if not topic:
        raise SettingsError(f"ensemble {ensemble!r} has no requests topic (topics.requests is empty)")
    return topic


def checked(value: Any, wanted: Any, name: str) -> Any:
    """``value`` as the wire type ``wanted`` has it; NumPy and torch numbers become Python's.

    Raises:
        InvalidInputError: it does not fit, naming ``name``, the value and what is expected.
    """
    try:
        return msgspec.convert(plain(value), wanted)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"{name} = {value!r:.80}: {error}") from None


def plain(value: Any) -> Any:
    """NumPy and torch values as Python numbers or lists, anything else as it is."""
    if hasattr(value, "detach"):  # a tensor may live on a GPU
        value = value.detach().cpu()
    return value.tolist() if hasattr(value, "tolist") else value


def each(value: Any, count: int, name: str) -> list[Any]:
    """``value`` for each of ``count`` requests: one for all is repeated.

    Raises:
        InvalidInputError: another number of values.
    """
    values = plain(value)
    if not isinstance(values, list | tuple):
        return [values] * count
    if len(values) != count:
        raise InvalidInputError(f"{name}: {len(values)} values for {count} requests")
    return [plain(one) for one in values]


def times_of(at: Any, count: int) -> NDArray[np.int64] | None:
    """``at``, one for all or for each of ``count`` requests, as a column; None where none is known.

    Raises:
        InvalidInputError: another number of values, or one that is no time.
    """
    if at is None:
        return None
    times = checked(each(at, count, "at"), list[Milliseconds | None], "at")
    return np.array([NO_TIME if time is None else time for time in times], np.int64)


def keys_of(request_ids: Sequence[str]) -> list[bytes]:
    """The Kafka keys of ``request_ids``.

    Raises:
        InvalidInputError: one is no text of 1 to 256 characters, or has no UTF-8 form.
    """
    ids: list[str] = checked(list(request_ids), list[RequestId], "request ids")
    try:
        return list(map(str.encode, ids))
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"request id {error.object!r} has no UTF-8 form") from None


def trace_headers(traceparent: str | None) -> Headers:
    """The record headers that carry a W3C trace context on.

    Raises:
        InvalidInputError: not a W3C traceparent.
    """
    if traceparent is None:
        return []
    if not _TRACEPARENT.fullmatch(traceparent):
        raise InvalidInputError(
            f"traceparent {traceparent!r}: expected version-traceid-parentid-flags in hex"
        )
    return [(HEADER_TRACE, traceparent.encode())]


def traceparent_of(headers: tuple[tuple[str, bytes], ...]) -> str | None:
    """The trace context a record carries; one that is not W3C's counts as none."""
    for name, value in headers:
        if name == HEADER_TRACE and value and (found := traceparent(value)):
            return found
    return None


def traceparent(value: bytes) -> str | None:
    """``value`` as a trace context; one that is not W3C's counts as none."""
    text = value.decode("ascii", "replace")
    return text if _TRACEPARENT.fullmatch(text) else None
