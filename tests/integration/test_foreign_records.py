"""What only our own workers write, from somebody else: fused records, weights, applied labels. Nothing is
learned from it, no worker ends, and who takes a partition over finds what was learned before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from stream_ensemble.core.learning import credit_block
from stream_ensemble.messages import CreditBlock
from tests.bad_input import DEEP, TRIAL
from tests.integration.learner_world import BLOCKS, MEMBERS, World, ids
from tests.property.test_messages import breakages

#: Fields of a fused record that the learner does not need: what stands there is nothing to it.
UNNEEDED = {
    *("version", "kind", "request_id", "status", "cause", "at", "output", "label", "sources", "asleep"),
    *("weights", "weights_version", "degraded", "config"),
}


def fused_tree(request_id: str, digest: str) -> dict[str, Any]:
    """A fused record that is right, if somebody carries the block of that digest."""
    return {
        "version": 1,
        "kind": "fused",
        "request_id": request_id,
        "status": "complete",
        "cause": "early",
        "at": 5,
        "segment": "s",
        "output": [0.5, 0.25, 0.25],
        "label": "x",
        "components": {"a": [0.5, 0.25, 0.25], "b": [0.5, 0.25, 0.25]},
        "sources": {"a": ["t", 0, 0, 0]},
        "asleep": {"c": "missing"},
        "weights": {"a": 0.5, "b": 0.5},
        "weights_version": {"generation": 0, "n": 0, "digest": "d"},
        "degraded": "redis",
        "credit": {"everywhere": digest},
        "shadow": ["c"],
        "warm": {"a": 0.1},
        "config": "c",
    }


def foreign_fused(digest: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Fused records that no fuser writes, with what is wrong."""
    tree = fused_tree("r", digest)
    for what, broken in breakages("fused", tree):
        if what.removeprefix("without ").split(" ")[0] not in UNNEEDED:
            yield what, broken
    for output in (
        [1e308, 0, 0],
        [-1e308, 1e308, 1],
        [2, 0, 0],
        [-0.5, 1, 0.5],
        [1, 0],
        [],
        [1, 0, 0, 0],
        ["1", 0, 0],
    ):
        yield f"output {output}", tree | {"components": {"a": output}}
    yield "a stranger", tree | {"components": {"nobody": [1, 0, 0]}}
    yield (
        "a segment's credit",
        {k: v for k, v in tree.items() if k != "segment"}
        | {"credit": {"everywhere": digest, "segment": digest}},
    )
    block = {"algorithm": "ml_poly", "generation": 0, "n": 0, "members": list(MEMBERS), "values": ""}
    for n, more in enumerate(
        (
            {"values": "\u00e9"},
            {"values": "!"},
            {"values": "AAAA"},
            {"values": "AAAAAAAA8H8="},
            {"values": "////////73/////////vfw=="},
            {"n": 2**70},
            {"n": -1},
            {"generation": -1},
            {"generation": 2**31},
            {"members": "abc"},
        )
    ):
        other = msgspec.convert(block, CreditBlock) if n > 4 else msgspec.convert(block | more, CreditBlock)
        name = credit_block.digest_of(other)
        credit = {"everywhere": name, "blocks": {name: block | more}}
        yield f"block {more}", tree | {"credit": credit}
    changed = {"everywhere": "0123456789abcdef", "blocks": {"0123456789abcdef": block}}
    yield "another digest", tree | {"credit": changed}


def foreign_weights() -> Iterator[bytes | None]:
    """Records of the weights topic that no learner writes."""
    tree = {
        "version": 1,
        "kind": "weights",
        "task": "class",
        "segment": None,
        "partition": 0,
        "generation": 0,
        "epoch": 2**52,
        "sequence": 0,
        "algorithm": "ml_poly",
        "members": list(MEMBERS),
        "n": 10**9,
        "clock": 1.0,
        "sums": {"R": "AAAA"},
        "maxima": {},
    }
    yield from (json.dumps(broken).encode() for _, broken in breakages("weights", tree))
    # Not base64, no ASCII, no number, a number for three members, deep, nothing.
    for text in ("!", "\u00e9", "AAAA", "AAAAAAAA8H8=", "AAAAAAAA8D8="):
        yield json.dumps(tree | {"sums": {"R": text}}).encode()
    yield from (DEEP, b"", None, b"\xff", b'{"x":"\xff"}', b'{"x":' * 200_000)


def foreign_applied() -> Iterator[tuple[bytes, bytes | None]]:
    """Records of the applied topic that no learner writes: key and value."""
    tree = {
        "version": 1,
        "kind": "applied",
        "request_id": "r",
        "state": "learned",
        "label": "x",
        "revision": 0,
        "weight": 1.0,
        "appended": 1,
        "origin": ["t", 0, 0, 0],
        "generation": 0,
    }
    for _, broken in breakages("applied", tree):
        yield b"r", json.dumps(broken).encode()
    for _, broken in breakages("trial", TRIAL):
        yield b"\xffr\xffa", json.dumps(broken).encode()
    for value in (DEEP, b"", b"\xff", b'{"x":"\xff"}', b'{"x":' * 200_000):
        yield b"r", value
        yield b"\xffr\xffa", value
    yield from ((b"\xfe", None), (b"\xff", None), (b"", b""))


async def test_what_only_workers_write_is_refused_from_others_and_nothing_is_learned_from_it(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    digest = BLOCKS[0][0]
    async with World(kafka_bootstrap, redis_url, ensemble_name, tmp_path) as world:
        good = ids(60, "good")
        async with world.owner() as owner:
            await world.fused(*good)
            bad = dict(enumerate(foreign_fused(digest)))
            for n, (_, tree) in bad.items():
                await world.write(world.topics.fused, f"bad-{n}", json.dumps(tree).encode())
            for key, value in ((None, b"{}"), ("", b"{}"), ("k", None), ("k", b""), ("deep", DEEP)):
                await world.write(world.topics.fused, key, value, partition=0)
            for value in (b"\xc1", b"\xc1\x00\x00\x00\x01\x94"):
                await world.write(world.topics.fused, "ours", value)
            for request_id in [*good, *(f"bad-{n}" for n in bad), "deep", "ours"]:
                await world.label(request_id, "x")
            await owner.catch_up()
            learned = owner.partition.standing
        dead = await world.dead()
        # One that says it carries credit is looked at as it comes, and dead itself; its label waits.
        keys = {(record.key or b"").decode() for _, record in dead}
        assert {what for n, (what, _) in bad.items() if f"bad-{n}" not in keys} == set()
        assert {reason for reason, _ in dead} <= {
            "fused-unreadable", "credit-not-found", "empty-value", "null-key"
        }  # fmt: skip
        whole = [parts.n for parts in await world.in_redis()]
        assert whole == [len(good)]
        for value in foreign_weights():
            await world.write(world.topics.weights, '["class",null]', value, partition=0)
        for key, value in foreign_applied():
            at = world.topics.applied
            await world._producer.send_and_wait(at, value, key, partition=0)
        async with world.owner(host="another") as owner:
            assert owner.partition.standing.learned.by_segment.packed(
                None
            ) == learned.learned.by_segment.packed(None)
            await world.fused("more")
            await world.label("more", "x")
            await owner.catch_up()
            assert [parts.n for parts in await world.in_redis()] == [len(good) + 1]
