"""Label keys: one for each request, or for each of its parts, and none like another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.core.labels.keys import from_bytes, has_part, label_key, taken_apart, to_bytes

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(texts, st.none() | texts)
def test_what_a_key_is_made_of_is_found_in_it(request_id: str, part: str | None) -> None:
    key = label_key(request_id, part)
    assert taken_apart(key) == (request_id, part)
    assert has_part(key) == (part is not None)
    assert from_bytes(to_bytes(key)) == key


@given(texts, texts, texts)
def test_no_id_is_the_key_of_a_part(request_id: str, other: str, part: str) -> None:
    assert label_key(request_id, part) != other
    assert to_bytes(label_key(request_id, part)) != other.encode()


@pytest.mark.parametrize("raw", [b"\xc3", b"\xff\xff", b"a\xffb\xffc", b"\xed\xb3\xbf"])
def test_bytes_that_are_no_key_are_refused(raw: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        from_bytes(raw)
