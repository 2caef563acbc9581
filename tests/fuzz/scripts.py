"""The scripts that run in Redis, beside what they are to do said in Python."""

from __future__ import annotations

import redis
from hypothesis import strategies as st

from stream_ensemble.stores.contribution_field import ORDER_BYTES, order_digits
from stream_ensemble.stores.redis_contributions import COMPARE_AND_DELETE, COMPARE_AND_SET, READ

orders = st.integers(0, 3).map(lambda n: b"%048d" % n)
values = st.one_of(
    st.builds(lambda order, rest: order + rest, orders, st.binary(max_size=20)),
    st.builds(lambda order, at: order[:at], orders, st.integers(0, ORDER_BYTES)),
    st.binary(max_size=60),
)
#: What our own calls give: a whole field, and the order that its owner wrote last, or none.
fields = st.builds(lambda order, rest: order + rest, orders, st.binary(max_size=20))
afters = st.just(b"") | orders
names = st.sampled_from([b"0", b"17", b"*", b"\0", b"a\nb", b"\xff", b"{x}", b""])


def compared_and_set(stored: bytes | None, field: bytes, after: bytes) -> int:
    """What ``COMPARE_AND_SET`` answers: 1 written, 0 a larger one stands, -1 not what was expected."""
    order, new = order_digits(stored or b""), field[:ORDER_BYTES]
    if order > new:
        return 0
    return -1 if after and order not in (after, new) else 1


def try_scripts(client: redis.Redis, name: bytes, stored: bytes | None, field: bytes, after: bytes) -> None:
    """Run all three on a hash that holds ``stored``."""
    hash_name = b"{fuzz}:" + name
    client.delete(hash_name)
    if stored is not None:
        client.hset(hash_name, name, stored)
    answer = client.eval(COMPARE_AND_SET, 1, hash_name, name, field, after)
    assert answer == compared_and_set(stored, field, after)
    stands = field if answer == 1 else stored
    assert client.hget(hash_name, name) == stands
    fields = [] if stands is None else [name, stands]
    assert client.eval(READ, 2, hash_name, b"{fuzz}:marks", name) == [fields, [None]]
    gone = client.eval(COMPARE_AND_DELETE, 1, hash_name, name, stored or b"")
    assert gone == int(stands is not None and stands == (stored or b""))
