"""Records as the auditor's rows."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec

from stream_ensemble.cli.audit.decoding import read_feedback
from stream_ensemble.messages import Control, Feedback


def test_a_control_record_is_no_label_and_one_that_is_not_understood_is_unreadable() -> None:
    values = [
        msgspec.json.encode(Feedback(version=1, kind="feedback", request_id="r", label="x")),
        msgspec.json.encode(Control(version=1, kind="control", number=1, id="c", action="unpin")),
        msgspec.json.encode(Control(version=1, kind="control", number=2, id="c", action="pin")),
        b"{",
    ]
    records = [SimpleNamespace(key=b"r", value=value, headers=[]) for value in values]
    read = read_feedback([(record, offset, 5) for offset, record in enumerate(records)])
    assert (read.ids, read.offsets) == ([b"r"], [0])
    assert read.unreadable == [(2, 0, 5), (3, 0, 5)]
