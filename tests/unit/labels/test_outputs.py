"""What is kept of a fused record says the same as the record, to the bit."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.core.labels.answers import credited, keep_answer
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.matching import Charge
from stream_ensemble.core.labels.outputs import Outputs, stacked
from stream_ensemble.core.labels.records import Answer
from stream_ensemble.core.labels.teaching import _labelled
from stream_ensemble.messages import Credit
from stream_ensemble.stores.memory_labels import MemoryLabelStore

numbers = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(min_size=1, max_size=3)


@given(
    components=st.integers(0, 3).flatmap(
        lambda c: st.dictionaries(names, st.lists(numbers, min_size=c, max_size=c), max_size=4)
    ),
    more=st.fixed_dictionaries(
        {},
        optional={
            "segment": names,
            "credit": st.builds(lambda name: {"everywhere": name}, names),
            "shadow": st.lists(names, max_size=2),
            "warm": st.dictionaries(names, numbers, max_size=2),
        },
    ),
)
def test_what_is_kept_says_what_the_record_says(
    components: dict[str, list[float]], more: dict[str, Any]
) -> None:
    changes = Changes(MemoryLabelStore())
    raw = msgspec.json.encode({"status": "complete", "components": components, **more})
    kept = keep_answer(changes, (0.0, 1.5), "r", Answer(3, 100, raw))
    assert changes.answers == {"r": kept}
    assert (kept.offset, kept.appended) == (3, 100)
    found = credited(kept)
    assert dict(found.components) == components
    assert list(found.components) == list(components)
    for member, output in components.items():
        signs = [math.copysign(1.0, x) for x in output]
        assert [math.copysign(1.0, x) for x in found.components[member]] == signs
    assert found.segment == more.get("segment")
    assert found.credit == (Credit(**more["credit"]) if "credit" in more else None)
    assert list(found.shadow) == more.get("shadow", [])
    assert (found.warm or {}) == more.get("warm", {})


def test_outputs_of_different_lengths_are_kept_as_they_came() -> None:
    record = Answer(1, 5, b'{"components": {"a": [1.0], "b": [0.5, 0.5]}}')
    kept = keep_answer(Changes(MemoryLabelStore()), (0.0, 1.5), "r", record)
    assert kept == record
    assert credited(kept).components == {"a": [1.0], "b": [0.5, 0.5]}


@given(
    rows=st.lists(st.lists(st.sampled_from("abc"), min_size=1, unique=True), min_size=1, max_size=6),
    packed=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_labels_are_the_same_arrays_whether_outputs_are_kept_or_given(
    rows: list[list[str]], packed: list[bool]
) -> None:
    rng = np.random.default_rng(0)
    given_ = [{name: rng.random(3).tolist() for name in row} for row in rows]
    as_kept = [
        Outputs(tuple(one), np.array(list(one.values()), "<f8").tobytes()) if pack else one
        for one, pack in zip(given_, packed, strict=False)
    ]
    for members in (("a", "b", "c"), ("c", "x", "b", "a")):
        found, expected = (
            _labelled(
                [Charge(Credit(everywhere="d"), None, c, r % 3, 1.0, 1, True) for r, c in enumerate(each)],
                members,
                0.0,
            )
            for each in (as_kept, given_)
        )
        np.testing.assert_array_equal(found.outputs, expected.outputs)
        np.testing.assert_array_equal(found.awake, expected.awake)


def test_outputs_are_a_mapping() -> None:
    outputs = Outputs(("b", "a"), np.array([0.5, 1.0, 0.25, 0.0]).tobytes())
    assert outputs == {"a": [0.25, 0.0], "b": [0.5, 1.0]}
    assert "c" not in outputs
    assert outputs.get("c") is None
    assert stacked([outputs, outputs]).shape == (2, 2, 2)
