"""A TCP proxy on the loopback interface whose connections can be cut, refused, slowed and silenced."""

from __future__ import annotations

import asyncio
import contextlib

from stream_ensemble.embedded.ports import HOST

_CHUNK = 64 << 10


class Proxy:
    """Forwards what comes to ``port`` to ``target`` on the same machine, as long as it may.

    Attributes:
        refusing: new connections are closed at once.
        delay_s: each piece of data is held for so long before it goes on, either way.
        deaf: what the server answers is swallowed, while what clients ask still arrives there.
    """

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self.target = target
        self.refusing = False
        self.delay_s = 0.0
        self.deaf = False
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen from now on."""
        self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def stop(self) -> None:
        """Close everything."""
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every open connection."""
        for writer in list(self._open):
            writer.transport.abort()

    def heal(self) -> None:
        """Forward faithfully again; connections whose answers were swallowed are of no use any more."""
        if self.deaf:
            self.cut()
        self.refusing, self.delay_s, self.deaf = False, 0.0, False

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = [writer]
        self._open.add(writer)
        try:
            if self.refusing:
                return
            far_reader, far_writer = await asyncio.open_connection(HOST, self.target)
            mine.append(far_writer)
            self._open.add(far_writer)
            pumps = [
                asyncio.ensure_future(self._pump(reader, far_writer, answers=False)),
                asyncio.ensure_future(self._pump(far_reader, writer, answers=True)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            pass
        finally:
            for each in mine:
                self._open.discard(each)
                each.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if answers and self.deaf:
                    continue
                writer.write(data)
                await writer.drain()
