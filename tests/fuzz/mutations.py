"""Bytes made from bytes that are right: changed, cut, doubled, with pieces that parsers trip over."""

from __future__ import annotations

from hypothesis import strategies as st

TOKENS = (
    *(b"null", b"true", b"NaN", b"-0", b"1e400", b"1e308", b"5e-324", b"9" * 25, b"18446744073709551616"),
    *(b'"', b"\\", b'"\\ud800"', b"\xff", b"\xed\xa0\x80", b"\0", b"{", b"}", b"[", b"]", b",", b":", b"\n"),
    *(
        b'"output":[1,0,0]',
        b'"request_id":"*"',
        b'"member":"b"',
        b'"version":1',
        b'"kind":"trial"',
        b"[" * 1200,
    ),
    *(b"\x80", b"\xc1", b"\xdf\xff\xff\xff\xff", b"\xff\xff\xff\xff\x0f", b"SEC1", b"0" * 48, b"9" * 48),
)
places = st.integers(0, 4_000)
changes = st.one_of(
    st.tuples(st.just("set"), places, st.binary(min_size=1, max_size=1)),
    st.tuples(st.just("in"), places, st.sampled_from(TOKENS) | st.binary(max_size=8)),
    st.tuples(st.just("out"), places, st.integers(1, 40).map(bytes)),
    st.tuples(st.just("cut"), places, st.just(b"")),
    st.tuples(st.just("twice"), places, st.just(b"")),
)


def changed(seed: bytes, made: list[tuple[str, int, bytes]]) -> bytes:
    """``seed`` after some changes, one after the other."""
    value = bytearray(seed)
    for kind, place, content in made:
        at = place % (len(value) + 1)
        if kind == "set":
            value[at : at + 1] = content
        elif kind == "in":
            value[at:at] = content
        elif kind == "out":
            del value[at : at + len(content)]
        elif kind == "cut":
            del value[at:]
        else:
            value[at:at] = value[at // 2 : at]
    return bytes(value)


def near(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Bytes that are nearly one of these, or any."""
    return st.builds(changed, st.sampled_from(seeds), st.lists(changes, max_size=6)) | st.binary(max_size=200)
