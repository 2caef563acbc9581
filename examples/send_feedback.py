"""Tells what a request's right answer was: python send_feedback.py REQUEST_ID CLASS."""

import asyncio
import sys

from stream_ensemble import FeedbackPublisher
from stream_ensemble.settings_file import load


async def main(request_id: str, label: str) -> None:
    async with FeedbackPublisher(load(), "example") as feedback:
        await feedback.publish(request_id, label)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
