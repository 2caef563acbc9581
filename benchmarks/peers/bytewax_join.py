"""bytewax as its guide has it: ``op.join`` of the four topics by request id."""

from __future__ import annotations

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.dataflow import Dataflow

from benchmarks.peers import given
from benchmarks.peers.bytewax_flow import Fused, Message, run, source


def keyed(message: Message) -> tuple[str, list[float]]:
    """Request id and output."""
    return message.key.decode(), given.read(message.value).output


def fused(joined: tuple[str, tuple[list[float], ...]]) -> Fused:
    """The fused record of a request whose answers are all there."""
    request_id, components = joined
    outputs = list(components)
    return KafkaSinkMessage(request_id.encode(), given.record(request_id, given.fuse(outputs), outputs))


def main() -> None:
    """Run until killed."""
    flow = Dataflow("join")
    sides = [
        op.map(f"keyed-{k}", source(flow, f"in-{k}", [topic]), keyed) for k, topic in enumerate(given.INPUTS)
    ]
    run(flow, op.map("fused", op.join("join", *sides), fused))


if __name__ == "__main__":
    main()
