"""Asks three questions: every model of the ensemble answers each of them."""

import asyncio
import time
import uuid

from stream_ensemble import RequestPublisher
from stream_ensemble.settings_file import load


async def main() -> None:
    async with RequestPublisher(load(), "example") as requests:
        for warmth in (-2.0, 0.1, 3.0):
            request_id = str(uuid.uuid4())
            await requests.publish(request_id, {"warmth": warmth}, at=time.time_ns() // 1_000_000)
            print(request_id, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
