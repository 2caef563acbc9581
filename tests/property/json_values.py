"""Messages as JSON the way others may write them, and some of them harmed."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st


@st.composite
def json_values(draw: st.DrawFn, messages: st.SearchStrategy[dict[str, Any]], sound: int) -> bytes | None:
    """A message with its fields in any order, some with spaces; of ``sound`` + 4 one each is cut, changed in
    a byte, has its fields twice, or is absent.
    """
    message = draw(st.permutations(list(draw(messages).items())).map(dict))
    value = msgspec.json.encode(message)
    if draw(st.booleans()):
        value = msgspec.json.format(value, indent=draw(st.integers(0, 2)))
    harm = draw(st.sampled_from(["none"] * sound + ["cut", "byte", "twice", "null"]))
    if harm == "null":
        return None
    place = draw(st.integers(0, len(value) - 1))
    if harm == "cut":
        return value[:place]
    if harm == "byte":
        return value[:place] + draw(st.binary(max_size=2)) + value[place + 1 :]
    return value[:-1] + b"," + value[1:] if harm == "twice" else value
