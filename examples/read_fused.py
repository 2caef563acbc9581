"""Prints every fused answer, from where this group left off."""

import asyncio

from stream_ensemble import FusedConsumer
from stream_ensemble.settings_file import load


async def main() -> None:
    async with FusedConsumer(load(), "example", group="read-fused") as answers:
        async for answer in answers:
            print(answer.request_id, answer.status, answer.label, answer.output, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
